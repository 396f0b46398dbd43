#!/bin/sh
# The set-up of the published test of memory compaction, with the tools that it used. On a mounted
# machine of 2 GiB:
#
#   pageblock mount mnt --memory 2G
#   pageblock run mnt -- examples/compaction-setup.sh mnt/disk
#
# 1. huge pages are made possible: a mount, a large overcommit, the recommended sysctls;
# 2. memory is filled with files of 512 KiB, all written at once, and every second one is
#    deleted: what is free now lies in small pieces;
# 3. the pool of huge pages is raised in steps of 5 % of memory. What each step got is printed.
#
# FILES and STEP can be set from outside.
set -eu
dir=${1:?the directory to fill, such as mnt/disk}
files=${FILES:-4096}
step=${STEP:-5}

# An ordinary user cannot mount hugetlbfs; the rest needs no mount.
hugeadm --create-global-mounts || echo 'no hugetlbfs mount: going on without' >&2
hugeadm --pool-pages-max DEFAULT:8G
hugeadm --set-recommended-min_free_kbytes
hugeadm --set-recommended-shmmax

database=$(mktemp)
updatedb -l 0 -o "$database" -U "$dir" --prunepaths= --prunefs=
rm -f "$database"
i=1
while [ "$i" -le "$files" ]; do
  dd if=/dev/zero of="$dir/file-$i" bs=512k count=1 2>/dev/null &
  i=$((i + 1))
done
wait
i=1
while [ "$i" -le "$files" ]; do
  rm "$dir/file-$i"
  i=$((i + 2))
done

field() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; }
pages=$(($(field MemTotal) / $(field Hugepagesize)))
echo 'percent wanted pool'
percent=$step
while [ "$percent" -le 100 ]; do
  wanted=$((pages * percent / 100))
  hugeadm --pool-pages-min "DEFAULT:$wanted" 2>/dev/null
  echo "$percent $wanted $(field HugePages_Total)"
  percent=$((percent + step))
done
