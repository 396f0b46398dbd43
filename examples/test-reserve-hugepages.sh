#!/bin/sh
# Tests a script that sets huge pages up, without touching the machine that it runs on: a laptop or
# a hosted runner, as root or not.
#
#   examples/test-reserve-hugepages.sh [SCRIPT]
set -eu
. "$(dirname "$0")/test-lib.sh"
script=${1:-$(dirname "$0")/reserve-hugepages.sh}

reserve() { run sh "$script" "$@"; }
wrote() { grep -q "\"path\":\"$1\",\"bytes\":\"${2-}" "$log"; }
pool() { cat "$mnt/proc/sys/vm/nr_hugepages"; }

machine --memory 1G
reserve 300 27
check 'reserves what is needed' '[ $status = 0 ] && [ "$(pool)" = 150 ]'
check 'lets shared memory be as large' 'wrote /proc/sys/kernel/shmmax 314572800'
check 'lets the group use it' 'wrote /proc/sys/vm/hugetlb_shm_group 27'
check 'drops no caches when it need not' '! wrote /proc/sys/vm/drop_caches'

machine --memory 1G
i=0
while [ $i -lt 1400 ]; do
  dd if=/dev/zero of="$mnt/disk/$i" bs=512k count=1 2>/dev/null
  i=$((i + 1))
done
sync
reserve 800
check 'finds room where files lay' '[ $status = 0 ] && [ "$(pool)" = 400 ]'

machine --memory 1G --fault 'pool 40'
reserve 300
check 'gives up when there is no memory' '[ $status = 1 ] && grep -q "not enough memory" "$dir/err"'
check 'has tried what can be tried' 'wrote /proc/sys/vm/drop_caches 3 && wrote /proc/sys/vm/compact_memory 1'
check 'leaves the pool as it was' '[ "$(pool)" = 0 ]'

machine --memory 1G --no-compaction --fault 'pool 40'
reserve 300
check 'needs no compaction in the kernel' '[ $status = 1 ] && ! grep -q compact_memory "$dir/err"'

machine --memory 1G --fault 'file /proc/sys/vm/nr_hugepages write EACCES'
reserve 300
check 'says that it may not' '[ $status != 0 ] && grep -q "cannot be set" "$dir/err"'

machine --machine ppc64 --memory 1G
reserve 300
check 'knows other sizes: 16 MB pages' '[ $status = 0 ] && [ "$(pool)" = 19 ]'
echo "1..$count"
