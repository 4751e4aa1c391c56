//! Identity of machines: the one rule for the roster, network boot, names and addresses.
//!
//! A machine reports a UUID, a serial number and the MAC addresses of its cards. Each of them can be
//! wrong: boards are sold by the thousand with the same UUID, serial numbers are left at
//! `Default string`, and a dock or USB card brings its address to another machine. Therefore no value
//! decides alone while another contradicts it, and no list of known bad values is needed:
//!
//! ```text
//! UUID    serial  card      (`=` agrees, `x` differs, `.` missing on one side, or shared by machines)
//!  =       =       = .      the same machine, as always when one value agrees and none differs
//!  x       x .     =        another machine; the card is one that moves
//!  .       x       =        another machine; the card is one that moves
//!  =       x       x        another machine; the UUID is shared
//!  x       =       x .      another machine; the serial number is shared
//!  =       = .     x        a person decides: a new card, or another board with the same UUID
//!  .       =       x        a person decides: likewise
//!  =       x       = .      a person decides: a new serial number, or another machine
//!  x       =       =        a person decides: a new board, or another machine
//! ```
//!
//! Two machines that are connected at the same time are two machines, whatever they report. A value
//! that two machines have is [`Shared`]: this is stored and reported once, and the value never decides
//! again, so neither order nor restarts matter.
//!
//! | module | content |
//! |---|---|
//! | `evidence` | identity values that a machine reports |
//! | `rule` | the table above, for one pair and for a sighting among all known machines |
//! | `register` | every known machine, shared values, and open questions |

mod evidence;
mod register;
mod rule;

pub use evidence::{Evidence, Shared, Value};
pub use register::{BootMatch, Change, IdentifyError, Mark, Record, Register, Sighting};
pub use rule::{Known, Relation, Verdict, judge, relate};
