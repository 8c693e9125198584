#!/usr/bin/env bash
# Installs streamsvc as a service of systemd from this checkout, or upgrades it: run it again after `git pull`.
#
#   sudo deploy/install.sh             one recorder: streamsvc.service, settings in /etc/streamsvc/env
#   sudo deploy/install.sh spot usdm   several: streamsvc@spot.service, settings in /etc/streamsvc/spot.env, and so on
#
# It makes
#   /opt/streamsvc/venv-TIME        a virtual environment with the code; it does not need the checkout afterwards
#   /opt/streamsvc/.venv            a link to the newest one, set when that is complete; the one before is kept
#   /usr/local/bin/streamsvc        a link to the command
#   /etc/systemd/system/            streamsvc.service and streamsvc@.service; own changes belong in `systemctl edit`
#   /etc/streamsvc/*env             from .env.example, if not there: settings are never overwritten
# and restarts what is running. It starts nothing that is not, since symbols are to be set first.
#
# PYTHON names another interpreter than python3. What pip is to do differently, its own variables (PIP_…) say.
set -euo pipefail

readonly checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly python=${PYTHON:-python3}
readonly home=/opt/streamsvc settings=/etc/streamsvc units=/etc/systemd/system

say() { printf '%s\n' "streamsvc: $*"; }
fail() { printf '%s\n' "streamsvc: $*" >&2; exit 1; }

check_machine() {
  [ "$(id -u)" = 0 ] || fail "this writes to $home, $settings and $units: run it as root"
  command -v systemctl >/dev/null || fail "there is no systemd here"
  local systemd; systemd=$(systemctl --version | awk 'NR == 1 { print int($2) }')
  [ "$systemd" -ge 250 ] || fail "systemd $systemd is too old: 250 or newer is needed"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$python is not Python 3.11 or newer; name one: PYTHON=python3.12 $0"
  "$python" -c 'import ensurepip' 2>/dev/null || fail "$python has no ensurepip: apt-get install python3-venv"
  local name
  for name in "$@"; do
    [[ $name =~ ^[a-z0-9][a-z0-9_]{0,31}$ ]] || fail "'$name' is no name of an instance: a-z, 0-9 and _ are"
  done
}

# Everything into a new environment; a failure leaves the one in use as it is.
install_code() {
  new=$home/venv-$(date -u +%Y%m%dT%H%M%SZ)
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch" "$new"' EXIT
  say "installing into $new"
  install -d -m 755 "$home"
  # The build writes beside the sources: into a copy, so that nothing of root's stays in the checkout.
  cp -R "$checkout"/{streamsvc,pyproject.toml,README.md,LICENSE} "$scratch"
  (umask 022
    "$python" -m venv "$new"
    "$new/bin/python" -m pip install --quiet --disable-pip-version-check -c "$checkout/constraints.txt" "$scratch"
    "$new/bin/streamsvc" --version)
  # A rename, so that there is no moment without.
  ln -sfn "$new" "$scratch/link" && mv -T "$scratch/link" "$home/.venv.new" && mv -T "$home/.venv.new" "$home/.venv"
  rm -rf "$scratch"
  trap - EXIT
  install -d -m 755 /usr/local/bin
  ln -sfn "$home/.venv/bin/streamsvc" /usr/local/bin/streamsvc
}

# Once what was running has been started anew, two stay: the one in use, and the one before, to go back to.
remove_old_code() {
  local old
  find "$home" -maxdepth 1 -type d -name 'venv-*' | sort | head -n -2 | while read -r old; do rm -rf "$old"; done
}

# Readable by root alone, who reads it for the service: there may be a key in it.
install_settings() {
  install -d -m 755 "$settings"
  local file
  for file in "$@"; do
    if [ -e "$settings/$file" ]; then
      say "$settings/$file stays as it is"
    else
      install -m 600 "$checkout/.env.example" "$settings/$file"
      say "$settings/$file: set the symbols there"
    fi
  done
}

install_units() {
  install -m 644 "$checkout"/deploy/streamsvc{,@}.service "$units"
  systemctl daemon-reload
}

restart_running() {
  local unit
  systemctl list-units --plain --no-legend --state=active,activating 'streamsvc.service' 'streamsvc@*.service' |
    awk '{ print $1 }' | while read -r unit; do
      say "restarting $unit"
      systemctl restart "$unit" </dev/null
    done
}

check_machine "$@"
install_code
if [ $# = 0 ]; then install_settings env; else install_settings "${@/%/.env}"; fi
install_units
restart_running
remove_old_code
if [ $# = 0 ]; then start=(streamsvc); else start=("${@/#/streamsvc@}"); fi
say "installed. To start now and with the machine: systemctl enable --now ${start[*]}"
