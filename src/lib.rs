//! diskcast puts one master image on a room full of machines at once, and proves it.
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`cli`] | words and tables a technician sees; the only user of clap and indicatif | everything below |
//! | [`console`] | a job from plan to report; roster of agents; store; local API; who boots what | `net`, `disk`, `pxe` |
//! | [`agent`] | the target side: facts, join, receive, write, read back, commit; capture and upload | `net`, `disk` |
//! | [`preos`] | the agent as the only process between the kernel and the console | `agent`, `net`, `pxe` |
//!
//! `facts` has the words that all crates share (facts and states of a target, sizes, rates and times), and the rule that says who a
//! machine is.
//! `net` has sockets, TLS, clock and the loops that drive a session; `disk` has block devices, capture, writing, read-back and commit.
//! `imagefmt`, `diskmap` and `multicast` are crates of their own, so that their manifests prove that no socket,
//! clock or file can enter them. `pxe` is one too: its codecs and decisions are pure, its services and exports are not. So are the
//! crates behind templates (`docs/templates.md`): `template`, `hive` and `inspect` are pure; `apply` changes disks, `domain` asks a
//! domain, and `firstboot` is what a machine finishes by itself.

pub mod agent;
#[cfg(feature = "console")]
pub mod cli;
#[cfg(feature = "console")]
pub mod console;
pub mod preos;
