//! Choices of the template file: one enum each, with its words.

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
    /// Search for the image on each target's disk before it is sent.
    Reuse {
        /// Search when a sample of the image is on the disk.
        #[default]
        Auto = "auto",
        /// Search in any case.
        Always = "always",
        /// Send and write everything.
        Never = "never",
    }
}

words! {
    /// Machines that the session waits for when their disks differ in speed.
    Pace {
        /// Wait for none, as long as any machine has room for data.
        Fastest = "fastest",
        /// Wait for the slower half; the few slowest get the missing data afterwards.
        #[default]
        Balanced = "balanced",
        /// Wait for the slowest.
        Everyone = "everyone",
    }
}

words! {
    /// Action of each machine when everything else is done.
    End {
        /// Power off.
        #[default]
        Shutdown = "shutdown",
        /// Restart from its disk.
        Restart = "restart",
        /// Stay up.
        None = "none",
    }
}

words! {
    /// Source of addresses.
    NetworkMode {
        /// Keep the network of the image.
        #[default]
        Keep = "keep",
        /// Addresses from a DHCP server.
        Dhcp = "dhcp",
        /// A fixed address for each machine, from `range` or the list.
        Static = "static",
    }
}

words! {
    /// Source of a machine's offline-join blob.
    JoinMethod {
        /// The file `NAME.blob` in the folder `blobs`, one for each machine.
        #[default]
        Blob = "blob",
        /// Samba's `net offlinejoin provision`, run on the console.
        Samba = "samba",
    }
}

words! {
    /// Choice of the machine SID.
    SidChoice {
        /// A new SID: by Windows Setup when the image is generalised, otherwise rewritten offline.
        #[default]
        Auto = "auto",
        /// Keep the SID of the image.
        Keep = "keep",
        /// A new SID by Windows Setup; the image has to be generalised.
        Sysprep = "sysprep",
        /// A new SID, rewritten offline in every place.
        Rewrite = "rewrite",
    }
}

words! {
    /// The way in which settings are applied to a Linux system.
    LinuxMethod {
        /// By cloud-init when the image has it, by files otherwise.
        #[default]
        Auto = "auto",
        /// By files.
        Files = "files",
        /// By a NoCloud seed for cloud-init.
        CloudInit = "cloud-init",
    }
}

words! {
    /// Identities that a Linux clone must not share with its master.
    Regenerate {
        /// `/etc/machine-id` and the seeds beside it.
        #[default]
        MachineId = "machine-id",
        /// Host keys of the SSH server.
        SshHostKeys = "ssh-host-keys",
    }
}

words! {
    /// Machines that get a driver.
    DriverMatch {
        /// Machines that have such a device.
        #[default]
        Auto = "auto",
        /// All machines.
        Always = "always",
    }
}

words! {
    /// Time at which a program runs.
    Phase {
        /// After the machine's first start, by the machine itself.
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
