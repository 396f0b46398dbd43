#!/bin/sh
# Reserves huge pages for a database, as its installation guide says: the script under test in
# test-reserve-hugepages.sh. It knows nothing of pageblock.
#
#   reserve-hugepages.sh MEGABYTES [GROUP]
#
# The pool is raised to what the shared memory needs. When memory is too fragmented, caches are
# dropped and memory is compacted, and it is tried again; after three times it gives up and puts
# the pool back to what it was.
set -eu
megabytes=${1:?megabytes of shared memory}
group=${2:-0}
vm=/proc/sys/vm

fail() {
  echo "reserve-hugepages: $1" >&2
  exit 1
}
field() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; }

size=$(field Hugepagesize)
[ -n "$size" ] || fail 'this kernel has no huge pages'
before=$(cat $vm/nr_hugepages) || fail 'the pool cannot be read'
wanted=$(((megabytes * 1024 + size - 1) / size))
bytes=$((wanted * size * 1024))

[ "$(cat /proc/sys/kernel/shmmax)" -ge "$bytes" ] || echo "$bytes" >/proc/sys/kernel/shmmax
echo "$group" >$vm/hugetlb_shm_group

for try in 1 2 3; do
  echo "$wanted" >$vm/nr_hugepages || fail 'the pool cannot be set'
  got=$(cat $vm/nr_hugepages)
  if [ "$got" -ge "$wanted" ]; then
    echo "reserved $got huge pages of $size kB"
    exit 0
  fi
  echo "try $try: $got of $wanted huge pages" >&2
  sync
  echo 3 >$vm/drop_caches
  [ ! -e $vm/compact_memory ] || echo 1 >$vm/compact_memory
done
echo "$before" >$vm/nr_hugepages
fail "not enough memory for $wanted huge pages"
