#!/bin/sh
# Tests a set-up script as it is in the world: dpdk-hugepages.py of Debian's package dpdk, unmodified,
# on machines that differ in nodes, kernel and luck. The package is unpacked, not installed.
#
#   examples/test-dpdk-hugepages.sh [SCRIPT]
#
# As an ordinary user all works but the mount of hugetlbfs, which the script reports and goes on.
set -eu
. "$(dirname "$0")/test-lib.sh"

if [ $# -gt 0 ]; then
  script=$1
else
  (cd "$dir" && apt-get download dpdk >/dev/null 2>&1 && dpkg -x dpdk_*.deb .) || {
    echo '1..0 # skip the package dpdk cannot be had: apt-get update' && exit 0
  }
  script=$dir/usr/bin/dpdk-hugepages.py
fi

setup() { run python3 "$script" "$@"; }
nodes=sys/devices/system/node
pool() { cat "$mnt/$nodes/node$1/hugepages/hugepages-2048kB/nr_hugepages"; }
all() { cat "$mnt/proc/sys/vm/nr_hugepages"; }
wrote() { grep -c "\"path\":\"/$nodes/node$1/[^\"]*/nr_hugepages\",\"bytes\":\"$2" "$log"; }

for kernel in 2.6.35 6.1; do
  machine --kernel $kernel --memory 1G --nodes 2
  setup --reserve 64M
  check "$kernel: reserves on every node" '[ $status = 0 ] && [ "$(pool 0) $(pool 1)" = "32 32" ]'
  setup --show
  check "$kernel: shows what it reserved" 'grep -q "^0 *32 *2Mb *64Mb" "$dir/out" && grep -q "^1 *32 " "$dir/out"'
  setup --node 1 --reserve 20M
  check "$kernel: one node alone" '[ "$(pool 0) $(pool 1)" = "32 10" ] && [ "$(wrote 0 .)" = 0 ]'
  setup --directory "$dir/huge" --setup 16M
  check "$kernel: a set-up clears first" '[ "$(wrote 0 0)" = 1 ] && [ "$(wrote 1 8)" = 1 ] && [ "$(all)" = 16 ]'
  setup --clear
  check "$kernel: clears" '[ $status = 0 ] && [ "$(all)" = 0 ]'
done

machine --memory 1G --nodes 2 --fault 'pool 40'
setup --reserve 64M
check 'says which node is short' '[ $status = 1 ] && grep -q "Unable to set pages (8 instead of 32 in .*/node" "$dir/err"'

machine --memory 512M --fault "file /$nodes/node0/hugepages/hugepages-2048kB/nr_hugepages open EACCES"
setup --reserve 64M
check 'says who may' '[ $status = 1 ] && grep -q "need to be root" "$dir/err"'

machine --memory 512M
setup --pagesize 1G --reserve 1G
check 'knows the sizes that there are' '[ $status = 1 ] && grep -q "Valid page sizes: 2048kB" "$dir/err"'

machine --memory 512M --no-numa
setup --reserve 64M
check 'needs no NUMA' '[ $status = 0 ] && [ "$(all)" = 32 ]'
echo "1..$count"
