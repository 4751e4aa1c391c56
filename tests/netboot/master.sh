# Makes a master disk: Debian with GRUB that boots under BIOS and UEFI (Secure Boot too), without a loop device.
#   bash master.sh FOLDER     leaves FOLDER/master.raw
set -euo pipefail
cd "$1"
uuid=11111111-2222-3333-4444-555555555555
rm -rf tree esp.img core.img master.raw.new root-with-sudo.tar.new
# Documentation and translations would be half of what goes over the network.
[ -f root-with-sudo.tar ] || {
  mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,sudo,linux-image-cloud-amd64 \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --format=tar bookworm root-with-sudo.tar.new
  mv root-with-sudo.tar.new root-with-sudo.tar
}
mkdir tree
tar -C tree -xf root-with-sudo.tar
echo "UUID=$uuid / ext4 defaults 0 1" > tree/etc/fstab
echo master > tree/etc/hostname
# Nothing of it is looked at; under emulation each costs seconds of a boot.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    dpkg-db-backup.timer systemd-pstore.service; do
  ln -sf /dev/null "tree/etc/systemd/system/$unit"
done
# Its network comes by DHCP, from systemd-networkd.
mkdir -p tree/etc/systemd/system/{multi-user.target.wants,network-online.target.wants}
ln -sf /lib/systemd/system/systemd-networkd.service tree/etc/systemd/system/multi-user.target.wants/
ln -sf /lib/systemd/system/systemd-networkd-wait-online.service tree/etc/systemd/system/network-online.target.wants/
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' > tree/etc/systemd/network/80-dhcp.network
mkdir -p tree/boot/grub
cat > tree/boot/grub/grub.cfg <<END
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
echo "GRUB of the master disk"
linux /vmlinuz root=UUID=$uuid ro console=ttyS0,115200 quiet systemd.show_status=0
initrd /initrd.img
boot
END

truncate -s 1100M master.raw.new
sgdisk -n 1:2048:+1M -t 1:ef02 -n 2:0:+16M -t 2:ef00 -n 3:0:0 -t 3:8300 master.raw.new > /dev/null
sector() { sgdisk -i "$1" master.raw.new | sed -n "s/^$2 sector: \([0-9]*\).*/\1/p"; }
first=$(sector 3 First)
mke2fs -q -t ext4 -E offset=$((first * 512)) -U $uuid -L root -d tree master.raw.new \
  $((($(sector 3 Last) - first + 1) / 2))k 2> mke2fs.log || { cat mke2fs.log >&2; exit 1; }
rm -rf tree

cat > search.cfg <<END
search --no-floppy --fs-uuid --set=root $uuid
set prefix=(\$root)/boot/grub
configfile \$prefix/grub.cfg
END
truncate -s 16M esp.img
mkfs.fat -n ESP esp.img > /dev/null
mmd -i esp.img ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i esp.img /usr/lib/shim/shimx64.efi.signed ::EFI/BOOT/BOOTX64.EFI
mcopy -i esp.img /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed ::EFI/BOOT/grubx64.efi
mcopy -i esp.img search.cfg ::EFI/debian/grub.cfg
dd if=esp.img of=master.raw.new bs=512 seek="$(sector 2 First)" conv=notrunc status=none

# What grub-bios-setup does: the boot sector learns where the core begins (offset 92), the core where its rest lies (offset 500).
grub-mkimage -O i386-pc -p /boot/grub -c search.cfg -o core.img \
  biosdisk part_gpt ext2 search search_fs_uuid configfile normal linux serial terminal echo boot
truncate -s %512 core.img
put() { dd of=master.raw.new bs=1 seek="$1" conv=notrunc status=none; }
rest=$(($(stat -c %s core.img) / 512 - 1))
dd if=/usr/lib/grub/i386-pc/boot.img of=master.raw.new bs=440 count=1 conv=notrunc status=none
printf '\x00\x08\x00\x00\x00\x00\x00\x00' | put 92
printf '\x90\x90' | put 102
dd if=core.img of=master.raw.new bs=512 seek=2048 conv=notrunc status=none
printf "$(printf '\\x01\\x08\\x00\\x00\\x00\\x00\\x00\\x00\\x%02x\\x%02x' $((rest % 256)) $((rest / 256)))" | put $((2048 * 512 + 500))
mv master.raw.new master.raw
