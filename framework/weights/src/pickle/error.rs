//! Why a pickle is refused.

use thiserror::Error;

use crate::text::visible;

/// A pickle was refused; nothing in it was executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{fault} (byte {offset} of the pickle)")]
pub struct PickleError {
    /// Where the opcode at fault starts.
    pub offset: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The bytes end inside the pickle.
    #[error("truncated: the pickle ends early")]
    Truncated,
    /// A global that runs programs or code.
    #[error(
        "refused: the pickle calls `{}`, which no checkpoint needs; do not load this file with PyTorch either",
        visible(name)
    )]
    Global {
        /// `module.name`.
        name: String,
    },
    /// A known global, used in a way that state dicts do not.
    #[error("refused: `{name}` with {what}")]
    Call {
        /// `module.name`.
        name: &'static str,
        /// The unexpected use.
        what: &'static str,
    },
    /// An opcode that checkpoints do not use.
    #[error("refused: opcode 0x{0:02x}")]
    Opcode(u8),
    /// A newer pickle protocol.
    #[error("pickle protocol {0}; 2 to 5 are read")]
    Protocol(u8),
    /// The stack has no value or no mark where one is needed.
    #[error("broken: the stack is empty")]
    Underflow,
    /// The memo has no such entry.
    #[error("broken: memo entry {0} is not set")]
    Memo(u32),
    /// A value of another kind than the opcode needs.
    #[error("broken: expected {expected}, found {found}")]
    Kind {
        /// What the opcode needs.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("broken: text is not UTF-8")]
    Text,
    /// One storage is described in two ways.
    #[error("broken: storage `{}` is declared twice, differently", visible(.0))]
    Storage(String),
    /// Arrays or texts that are repeated far beyond what is there of them.
    #[error("refused: what it holds would take many times the bytes of the pickle")]
    Expansion,
    /// More than any checkpoint has.
    #[error("refused: more than {limit} {what}")]
    Limit {
        /// The limit.
        limit: usize,
        /// What is limited.
        what: &'static str,
    },
}
