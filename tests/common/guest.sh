# Makes what a small machine under QEMU starts from: Debian's kernel, and a root folder in memory with busybox, the kernel's
# file systems, and the programs that are named, each with its libraries.
#   bash guest.sh FOLDER PROGRAM...     leaves FOLDER/vmlinuz and FOLDER/root.cpio
# What is downloaded stays in FOLDER: it depends on nothing that is tested.
set -euo pipefail
cd "$1"
shift
if [ ! -d packages ]; then
  rm -rf download unpacked
  mkdir download
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  (cd download && apt-get -q download "$kernel" busybox-static 2> ../apt.log) || { cat apt.log >&2; exit 1; }
  for package in download/*.deb; do dpkg-deb -x "$package" unpacked; done
  mv unpacked packages
  rm -rf download
fi
busybox=$PWD/packages/bin/busybox
modules=$(echo packages/lib/modules/*)
rm -rf tree root.cpio
mkdir -p tree/{bin,proc,sys,dev,run,root,tmp,etc,mnt} tree/var/{tmp,log/samba,cache/samba,lib/samba/private} tree/usr/share/samba
ln -s bin tree/sbin
cp "$busybox" tree/bin/
mkdir -p "tree${modules#packages}"
(cd "$modules" && cp -r --parents modules.builtin modules.order modules.builtin.modinfo kernel/fs kernel/crypto kernel/lib \
  kernel/arch/x86/crypto kernel/net/dns_resolver kernel/drivers/block/loop.ko "$OLDPWD/tree${modules#packages}")
"$busybox" depmod -b tree "$(basename "$modules")"
for program; do
  install -D -s "$program" "tree/bin/$(basename "$program")"
  for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "tree$(dirname "$library")"
    cp -Ln "$library" "tree$library"
  done
done
cp -r --parents /usr/lib/*/samba tree/
echo 'root:x:0:0::/root:/bin/sh' > tree/etc/passwd
echo 'tech:x:1000:1000::/:/bin/sh' >> tree/etc/passwd
echo 'nobody:x:65534:65534::/:/bin/sh' >> tree/etc/passwd
echo 'root:x:0:' > tree/etc/group
echo '127.0.0.1 localhost' > tree/etc/hosts
# Commands come by the second serial line, one a line; each answer ends with a mark and the exit code.
cat > tree/init <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run
ip link set lo up
ip route add 239.0.0.0/8 dev lo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
printf '\036ready\n'
while read -r line; do
  eval "$line" </dev/null
  printf '\036%s\n' $?
done
END
chmod +x tree/init
(cd tree && find . | cpio -o -H newc --quiet) > root.cpio
cp packages/boot/vmlinuz-* vmlinuz
rm -rf tree
