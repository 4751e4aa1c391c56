//! The pre-OS: from Debian packages to a kernel and an initramfs.
