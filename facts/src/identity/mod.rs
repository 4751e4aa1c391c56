//! Who a machine is: the one rule for the roster, network boot, names and addresses.
//!
//! A machine says a UUID, a serial number and the addresses of its cards. Each of them lies now and then: boards are sold by the thousand with
//! one UUID, serial numbers are left at `Default string`, and a dock or USB card carries its address from machine to machine. So no value
//! decides alone while another contradicts it, and no list of known bad values is needed:
//!
//! ```text
//! UUID    serial  card      (`=` agrees, `x` differs, `.` missing on one side, or known to be of several machines)
//!  =       =       = .      the same machine; so it is with everything that agrees in one value at least and differs in none
//!  x       x .     =        another machine; the card is one that moves
//!  .       x       =        another machine; the card is one that moves
//!  =       x       x        another machine; the UUID is of several
//!  x       =       x .      another machine; the serial number is of several
//!  =       = .     x        asked: a new card in the same machine, or a board with the same UUID
//!  .       =       x        asked: likewise
//!  =       x       = .      asked: a new serial number, or another machine
//!  x       =       =        asked: a new board, or another machine
//! ```
//!
//! Two machines that are connected at the same time are two machines, whatever they say. A value that two machines have is [`Shared`]: that is
//! remembered, told once, and the value never decides again, so neither order nor restarts matter.
//!
//! | module | what it is |
//! |---|---|
//! | `evidence` | what a machine says of itself |
//! | `rule` | the table above, for one pair and for a sighting among all that are known |
//! | `register` | every known machine, what is shared, and the questions that are open |

mod evidence;
mod register;
mod rule;

pub use evidence::{Evidence, Shared, Value};
pub use register::{BootMatch, Change, IdentifyError, Mark, Record, Register, Sighting};
pub use rule::{Known, Relation, Verdict, judge, relate};
