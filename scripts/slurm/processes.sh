# Sourced by `cluster`: waiting, and ending processes of this cluster and no others.
# shellcheck shell=bash disable=SC2154

die() {
  echo "cluster: $*." >&2
  exit 1
}

missing_programs() {
  local program
  for program; do command -v "$program" >/dev/null || printf ' %s' "$program"; done
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if ((SECONDS >= limit)); then
      echo "cluster: still waiting for $what; giving up." >&2
      return 1
    fi
    sleep 0.1
  done
}

listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Zombies count as dead: in a container nobody may ever reap them.
alive() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) && [[ -n $state && $state != [ZX] ]]
}

# has_pid FILE: it names a living daemon. A number from an older life may belong to any process now, so names are compared;
# the file's own name starts with the program's.
has_pid() {
  local pid name=${1##*/}
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && alive "$pid" && [ "$(cat "/proc/$pid/comm")" = "${name%%.*}" ]
}

# end FILE: ask a daemon to end; make it after 10 s.
end() {
  has_pid "$1" || return 0
  local pid
  pid=$(<"$1")
  kill -TERM "$pid"
  await 10 "the end of ${1##*/} (process $pid)" dead "$pid" || kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}

dead() { ! alive "$1"; }

# steps_of NODE: process ids of the slurmstepd of one node. They are children of pid 1 and in no file; what tells them apart
# is that they write into their node's log.
steps_of() {
  local process
  for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm" 2>/dev/null)" = slurmstepd ] || continue
    # A file that is closed meanwhile is no failure.
    if { readlink "$process"/fd/* 2>/dev/null || true; } | grep -Fqx "$folder/log/slurmd.$1"; then echo "${process#/proc/}"; fi
  done
}

# kill_tree PID: it and everything under it, at once.
kill_tree() {
  local child children
  # Stopped first, so that it starts nothing new meanwhile.
  kill -STOP "$1" 2>/dev/null || return 0
  read -ra children <<<"$(cat "/proc/$1/task"/*/children 2>/dev/null)"
  for child in "${children[@]}"; do kill_tree "$child"; done
  kill -KILL "$1" 2>/dev/null || true
}
