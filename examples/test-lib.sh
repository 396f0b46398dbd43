# What tests of scripts need, for test-*.sh to source: machines to run a script on, and a report in TAP.
# PAGEBLOCK names the command, `npx pageblock` by default.
pageblock=${PAGEBLOCK:-npx pageblock}
dir=$(mktemp -d)
mnt=$dir/mnt
log=$dir/writes.jsonl
count=0

clean_up() {
  $pageblock umount "$mnt" 2>/dev/null || true
  rm -rf "$dir"
}
trap clean_up EXIT

# Mounts a machine; all that follows is what pageblock mount takes.
machine() {
  $pageblock umount "$mnt" 2>/dev/null || true
  $pageblock mount "$mnt" "$@"
}
# Runs a program on it; its exit status is in $status, what it wrote in $log.
run() {
  status=0
  $pageblock run "$mnt" --log "$log" -- "$@" >"$dir/out" 2>"$dir/err" || status=$?
}
# check NAME CONDITION: a line of the report; the first that fails ends it.
check() {
  count=$((count + 1))
  if eval "$2"; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    sed 's/^/# /' "$dir/out" "$dir/err" "$log"
    exit 1
  fi
}
