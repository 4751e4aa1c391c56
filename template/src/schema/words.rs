//! The choices of the file: an enum each, with its words.

use crate::step::{OnError, OnExists};
use crate::values::Word;
use serde::{Deserialize, Serialize};

/// Declares a choice of words for the file: an enum, its serde and schema form, and its word list.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// The word of the file.
            pub fn as_str(self) -> &'static str {
                self.word()
            }
        }

        impl Word for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }
    };
}

words! {
    /// Whether the image is looked for on each target's disk first.
    Reuse {
        /// Where a sample of it is there.
        #[default]
        Auto = "auto",
        /// In any case.
        Always = "always",
        /// Everything is sent and written.
        Never = "never",
    }
}

words! {
    /// Whom the session waits for when disks differ.
    Pace {
        /// For nobody, while anybody has room.
        Fastest = "fastest",
        /// For the slower half; a slow few get the rest afterwards.
        #[default]
        Balanced = "balanced",
        /// For the slowest.
        Everyone = "everyone",
    }
}

words! {
    /// What each machine does once everything else is done.
    End {
        /// Powers off.
        #[default]
        Shutdown = "shutdown",
        /// Restarts from its disk.
        Restart = "restart",
        /// Stays up.
        None = "none",
    }
}

words! {
    /// Where addresses come from.
    NetworkMode {
        /// As the image has it.
        #[default]
        Keep = "keep",
        /// From a DHCP server.
        Dhcp = "dhcp",
        /// One for each machine, from `range` or the list.
        Static = "static",
    }
}

words! {
    /// Where the offline-join blob of a machine comes from.
    JoinMethod {
        /// `NAME.blob` in the folder `blobs`, one for each machine.
        #[default]
        Blob = "blob",
        /// Made on the console by Samba's `net offlinejoin provision`.
        Samba = "samba",
    }
}

words! {
    /// The machine SID.
    SidChoice {
        /// A new one: by Windows Setup where the image is generalised, rewritten offline in any other.
        #[default]
        Auto = "auto",
        /// As the image has it.
        Keep = "keep",
        /// Drawn anew by Windows Setup; the image has to be generalised.
        Sysprep = "sysprep",
        /// Rewritten everywhere, offline.
        Rewrite = "rewrite",
    }
}

words! {
    /// How a Linux system is made itself.
    LinuxMethod {
        /// By cloud-init where the image has it, by files otherwise.
        #[default]
        Auto = "auto",
        /// By files.
        Files = "files",
        /// By a NoCloud seed for cloud-init.
        CloudInit = "cloud-init",
    }
}

words! {
    /// What a Linux clone must not share with its master.
    Regenerate {
        /// `/etc/machine-id` and the seeds beside it.
        #[default]
        MachineId = "machine-id",
        /// The host keys of its SSH server.
        SshHostKeys = "ssh-host-keys",
    }
}

words! {
    /// Where a driver goes.
    DriverMatch {
        /// Only where the machine has such a device.
        #[default]
        Auto = "auto",
        /// Everywhere.
        Always = "always",
    }
}

words! {
    /// When a program runs.
    Phase {
        /// By the machine itself, after its first start.
        #[default]
        Firstboot = "firstboot",
    }
}

impl Word for OnExists {
    const ALL: &'static [(&'static str, Self)] = &[
        ("update", Self::Update),
        ("skip", Self::Skip),
        ("fail", Self::Fail),
    ];
}

impl Word for OnError {
    const ALL: &'static [(&'static str, Self)] =
        &[("stop", Self::Stop), ("continue", Self::Continue)];
}
