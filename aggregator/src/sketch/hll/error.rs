//! Why a forwarded set is refused.

use thiserror::Error;

/// Why the bytes of a forwarded set are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HllError {
    /// The bytes end inside a part.
    #[error("the sketch ends inside {0}")]
    Truncated(&'static str),
    /// Bytes follow the last part.
    #[error("{0} bytes follow the sketch")]
    Trailing(usize),
    /// A version of the format other than 1.
    #[error("the sketch has version {0} instead of 1")]
    Version(u8),
    /// A precision other than 14: such sketches cannot be merged.
    #[error("the sketch has precision {0} instead of 14")]
    Precision(u8),
    /// A layout that is neither dense (0) nor sparse (1).
    #[error("the sketch has layout {0} instead of 0 or 1")]
    Layout(u8),
    /// A register offset that no hash can lead to, or any in a sparse sketch.
    #[error("the sketch has the register offset {0}")]
    Offset(u8),
    /// A number of register bytes other than 8,192.
    #[error("the sketch has {0} bytes of registers instead of 8192")]
    Registers(u32),
    /// A sparse part that is longer than any sender lets it become.
    #[error("the sparse sketch has {0} where {1} are the most")]
    Oversized(u32, usize),
    /// A sparse code that no hash gives, or one that does not ascend.
    #[error("the sparse code {0:#x} is out of range or order")]
    Code(u64),
    /// A list whose number of codes is not the one stated.
    #[error("the sparse list says {stated} codes and has {found}")]
    Count {
        /// What the header says.
        stated: u32,
        /// What follows.
        found: u32,
    },
    /// A list whose last code is not the one stated.
    #[error("the sparse list says {stated:#x} is its last code and ends with {found:#x}")]
    Last {
        /// What the header says.
        stated: u32,
        /// What follows.
        found: u32,
    },
}

impl HllError {
    /// One word for the counter of refused metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Truncated(_) => "truncated",
            Self::Trailing(_) => "trailing",
            Self::Version(_) => "version",
            Self::Precision(_) => "precision",
            Self::Layout(_) => "layout",
            Self::Offset(_) => "offset",
            Self::Registers(_) => "registers",
            Self::Oversized(..) => "oversized",
            Self::Code(_) => "code",
            Self::Count { .. } => "count",
            Self::Last { .. } => "last",
        }
    }
}
