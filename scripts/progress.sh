# How the scripts speak, for sourcing: what they do, how long it takes, and what to do when it fails.

bold='' red='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' red=$'\033[1;31m' plain=$'\033[0m'; fi

say() { printf '%s[bivouac]%s %s\n' "$bold" "$plain" "$*" >&2; }

# fail MESSAGE… : the last words; every further argument is a line of its own.
fail() {
  printf '%s[bivouac] %s%s\n' "$red" "$1" "$plain" >&2
  shift
  for line in "$@"; do printf '          %s\n' "$line" >&2; done
  exit 1
}

# with_progress WHAT COMMAND… : runs it with its output kept in a file; says every 15 s that it goes on, and shows the
# output's end if it fails.
with_progress() {
  local what=$1 log started=$SECONDS pid
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # An interrupted wait must not leave the command running behind the prompt.
  trap 'kill "$pid" 2>/dev/null || true; exit 130' INT TERM
  local next=$((SECONDS + 15))
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS >= next)); then
      local last
      last=$(tail -n 1 "$log" | tr -d "\r" | cut -c1-80)
      say "$what: $((SECONDS - started)) s, still at it${last:+ ($last)}"
      next=$((SECONDS + 15))
    fi
    sleep 0.2
  done
  trap - INT TERM
  if wait "$pid"; then
    say "$what: done in $((SECONDS - started)) s"
    rm -f "$log"
  else
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
  fi
}

# at_least HAVE WANT : whether version HAVE is WANT or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
