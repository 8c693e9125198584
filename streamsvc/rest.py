"""A client of the exchange's REST, with every wait and size bounded. The only importer of httpx2.

httpx2 takes a tenth of a second to import, so it is imported in a thread when the first request is made. The project
has ended and httpx2 goes on with it; a change of library is a change of this file.

Statuses are mapped as Binance documents them: 429 and 418 ask us to stay away, 403 is the firewall, 5xx and -1007 leave
it unknown whether the request was carried out. The API key goes into the header of the requests that need it, and
nowhere else.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import msgspec
import trio

from streamsvc.errors import StreamsvcError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    import httpx2

ANSWER_BYTES_MAX: Final = 64 << 20
"""`exchangeInfo` of spot, the largest answer that we ask for, has about 20 MB."""
RETRY_AFTER_SEC_MAX: Final = 3 * 86400.0
"""The longest ban that the exchange documents."""

_ERROR_CHARACTERS_MAX = 200
_UNKNOWN_STATUS_CODE = -1007
_LIMIT_CODE = -1003
_NO_KEY_CODE = -2014
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
_KEY = re.compile(r"[!-~]+")


class RestError(StreamsvcError):
    """A request did not bring what was asked."""


class RestUnavailableError(RestError):
    """The exchange did not answer, or said nothing that can be used; later it may."""


class RestRefusedError(RestError):
    """The exchange refuses this request and would refuse it again.

    Attributes:
        status: The HTTP status.
        code: The exchange's code, 0 if it gave none.
    """

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(f"status {status}, code {code}: {text}")
        self.status = status
        self.code = code


class RestLimitedError(RestError):
    """The exchange asks us to stay away.

    Attributes:
        is_ban: Whether our address is banned (418) rather than asked to slow down (429).
        retry_after_sec: How long, if it said so.
        until_ms: Until when by its clock, if only its message said so: futures may leave `Retry-After` out.
    """

    def __init__(self, *, is_ban: bool, retry_after_sec: float | None, until_ms: int | None = None) -> None:
        super().__init__("banned" if is_ban else "asked to slow down")
        self.is_ban = is_ban
        self.retry_after_sec = retry_after_sec
        self.until_ms = until_ms


class _Problem(msgspec.Struct):
    code: int = 0
    msg: str = ""


class RestClient:
    """One exchange host. Use as an async context manager: it closes its connections.

    Args:
        base_url: The base URL, without path; `http` for a local exchange.
        tls_ca_file: One more authority to trust.
        timeout_sec: The limit of one request, from dialling to the last byte.
        api_key: For requests that need one.
        run_blocking: Runs a synchronous function off the loop.

    Attributes:
        host: The host, with its port where the URL has one.
        used_weight: The weight that the exchange says this address has used in this minute; None before it said so.
        weight_read_at: When it said so, by Trio's clock.

    Raises:
        UsageError: the API key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        tls_ca_file: Path | None = None,
        timeout_sec: float = 20.0,
        api_key: str | None = None,
        run_blocking: Callable[[Callable[[], Any]], Awaitable[Any]] = trio.to_thread.run_sync,
    ) -> None:
        if api_key is not None and not _KEY.fullmatch(api_key):
            # A header that cannot be sent would show the key in the error of the library.
            raise UsageError("the API key is not one: it must be letters and digits without blanks")
        self.host = urlsplit(base_url).netloc.rpartition("@")[2]
        self.used_weight: int | None = None
        self.weight_read_at = -math.inf
        self._api_key = api_key
        self._base_url = base_url
        self._tls_ca_file = tls_ca_file
        self._timeout_sec = timeout_sec
        self._run_blocking = run_blocking
        self._client: httpx2.AsyncClient | None = None
        self._making = trio.Lock()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._client is not None:
            with trio.move_on_after(1, shield=True):
                await self._client.aclose()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def get(self, path: str, parameters: Mapping[str, str | int], *, needs_key: bool = False) -> bytes:
        """The body of a successful answer, at most `ANSWER_BYTES_MAX`.

        Args:
            path: With its leading slash.
            parameters: Of the query, not yet encoded.
            needs_key: Whether the request must carry the API key.

        Raises:
            RestUnavailableError: no answer within the limits, or one that says nothing about the request.
            RestLimitedError: we are asked to stay away.
            RestRefusedError: the exchange refuses this request, or there is no key for it.
        """
        headers = {}
        if needs_key:
            if self._api_key is None:
                await trio.lowlevel.checkpoint()
                raise RestRefusedError(401, _NO_KEY_CODE, "this needs an API key, and there is none")
            headers["X-MBX-APIKEY"] = self._api_key
        try:
            with trio.fail_after(self._timeout_sec):
                # One client, also where several requests are the first: another one would never be closed.
                async with self._making:
                    if self._client is None:
                        self._client = await self._run_blocking(self._make_client)
                return await self._get(self._client, path, parameters, headers)
        except trio.TooSlowError as error:
            raise RestUnavailableError(f"no answer within {self._timeout_sec:g} s") from error

    def _make_client(self) -> httpx2.AsyncClient:
        import ssl  # noqa: PLC0415

        import httpx2  # noqa: PLC0415 - see the module's docstring

        context = ssl.create_default_context()
        if self._tls_ca_file is not None:
            context.load_verify_locations(cafile=self._tls_ca_file)
        return httpx2.AsyncClient(
            base_url=self._base_url,
            verify=context,
            timeout=self._timeout_sec,
            limits=httpx2.Limits(max_connections=4, max_keepalive_connections=1, keepalive_expiry=5),
            follow_redirects=False,
            # Streams are dialled directly: REST takes no other way, proxy or not.
            trust_env=False,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "streamsvc"},
        )

    async def _get(
        self,
        client: httpx2.AsyncClient,
        path: str,
        parameters: Mapping[str, str | int],
        headers: Mapping[str, str],
    ) -> bytes:
        import httpx2  # noqa: PLC0415 - imported already by `_make_client`

        body = bytearray()
        try:
            async with client.stream("GET", path, params=dict(parameters), headers=headers) as response:
                # A loop that is left early would leave httpx2's generators to the garbage collector: it is cancelled.
                with trio.CancelScope() as reading:
                    async for chunk in response.aiter_raw():
                        if len(body) <= ANSWER_BYTES_MAX:
                            body += chunk
                        else:
                            reading.cancel()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise RestUnavailableError(_reason(error)) from error
        self._note_weight(response.headers.get("X-MBX-USED-WEIGHT-1M", ""))
        is_packed = response.headers.get("Content-Encoding", "") == "gzip"
        content = await self._run_blocking(functools.partial(_unpack, body)) if is_packed else bytes(body)
        if len(content) > ANSWER_BYTES_MAX:
            raise RestUnavailableError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        if response.status_code == 200:
            return content
        raise _error_of(response.status_code, response.headers.get("Retry-After", ""), content)

    def _note_weight(self, text: str) -> None:
        if text.isascii() and text.isdigit() and len(text) < 10:
            self.used_weight = int(text)
            self.weight_read_at = trio.current_time()


def _unpack(body: bytearray) -> bytes:
    """What was compressed, up to one byte more than is allowed."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(body, ANSWER_BYTES_MAX + 1)
    except zlib.error as error:
        raise RestUnavailableError("an answer that cannot be unpacked") from error
    if not unpacker.eof and len(content) <= ANSWER_BYTES_MAX:
        raise RestUnavailableError("an answer that was cut")
    return content


def _reason(error: BaseException) -> str:
    """The first fault of a chain that says something: httpx2 often hides what TLS or the system said."""
    kind = type(error).__name__
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return f"{kind}: {str(cause or '')[:_ERROR_CHARACTERS_MAX]}"


def _error_of(status: int, retry_after: str, body: bytes) -> RestError:
    """What an answer other than 200 means."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem()
    if status in {418, 429} or problem.code == _LIMIT_CODE:
        is_number = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10
        wait_sec = min(float(retry_after), RETRY_AFTER_SEC_MAX) if is_number else None
        told = _BANNED_UNTIL.search(problem.msg)
        until_ms = int(told[1]) if told else None
        return RestLimitedError(is_ban=status == 418 or told is not None, retry_after_sec=wait_sec, until_ms=until_ms)
    if not 400 <= status < 500 or status == 403 or problem.code == _UNKNOWN_STATUS_CODE:
        return RestUnavailableError(f"status {status}")
    return RestRefusedError(status, problem.code, problem.msg[:_ERROR_CHARACTERS_MAX])
