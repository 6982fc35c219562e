//! Carbon's pickles, read without Python: `[(path, (timestamp, value)), …]`, in protocols 0 to 5.
//!
//! A pickle is a program for a stack machine, and the full machine may call anything. This one knows only what builds text, numbers, lists, tuples and
//! dictionaries; whatever names a class, calls something or reaches out of the pickle refuses the whole frame.
//!
//! What always holds, whatever the bytes are:
//! - Nothing is allocated because of a length or an index that a peer claims: text stays in the frame and is only pointed at, and a memo's index must
//!   not be above the number of bytes read so far, as counting up never is.
//! - Values lie flat in a few vectors and point at each other by index. Nothing recurses, neither reading nor dropping, so depth costs nothing and needs
//!   no bound of its own; a list that holds itself, or doubles itself by memo twenty-five times over, is as small as its frame.
//! - The number of values is bounded by the length of the frame, see [`Unpickler::decode`].
//!
//! The crate `serde-pickle` (1.2) was tried first. It is good with hostile lengths and refuses classes, but it recurses: two kilobytes of nested tuples
//! overflow a thread's stack in a release build, and end the process.

mod cursor;
mod machine;
mod text;

#[cfg(test)]
mod tests;

use super::number;
use machine::Machine;

/// Why a frame is refused whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends within an instruction, or without a stop.
    #[error("the pickle is cut short")]
    CutShort,
    /// An instruction that calls, names a class, or reaches out of the pickle.
    #[error("the pickle wants to do what no metric needs: instruction {0:#04x}")]
    Unsafe(u8),
    /// No instruction at all.
    #[error("{0:#04x} is no instruction of a pickle")]
    Unknown(u8),
    /// A protocol from the future.
    #[error("protocol {0} is not known")]
    Protocol(u8),
    /// The stack holds less, or something else, than an instruction needs.
    #[error("the pickle's stack does not hold what an instruction needs")]
    Stack,
    /// A memo slot that was never filled, or that no pickler would count up to.
    #[error("the pickle's memo has no such slot")]
    Memo,
    /// A number or string in text that is none.
    #[error("the pickle holds a number or string that is none")]
    Malformed,
    /// More values than a frame of this length can need.
    #[error("the pickle makes more values than its length allows for")]
    TooComplex,
    /// Neither a list nor a tuple.
    #[error("the pickle is not a list of points")]
    NoList,
}

impl FrameError {
    /// A short word for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::CutShort => "cut_short",
            Self::Unsafe(_) => "unsafe",
            Self::Unknown(_) => "unknown_opcode",
            Self::Protocol(_) => "protocol",
            Self::Stack => "stack",
            Self::Memo => "memo",
            Self::Malformed => "malformed",
            Self::TooComplex => "too_complex",
            Self::NoList => "no_list",
        }
    }
}

/// One point of a frame. What its path and numbers mean is not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item<'a> {
    /// As it came: any bytes.
    pub path: &'a [u8],
    /// In seconds since 1970; −1 stands for now. May be NaN or infinite.
    pub timestamp: f64,
    /// May be NaN or infinite.
    pub value: f64,
}

/// Why one item of a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// It is not `(path, (timestamp, value))`.
    #[error("an item is not (path, (timestamp, value))")]
    Shape,
    /// The value is neither a number nor the text of one.
    #[error("the value is no number")]
    Value,
    /// The timestamp is neither a number nor the text of one.
    #[error("the timestamp is no number")]
    Timestamp,
}

impl ItemError {
    /// A short word for counters.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Value => "value",
            Self::Timestamp => "timestamp",
        }
    }
}

/// Reads one frame after another, and keeps its memory for the next.
#[derive(Debug, Default)]
pub struct Unpickler(Machine);

/// The items of a frame.
#[derive(Debug)]
pub struct Items<'a> {
    machine: &'a Machine,
    frame: &'a [u8],
    rest: machine::Walk,
}

impl Unpickler {
    /// Reads a frame, given without its length. Bytes behind the pickle's stop are ignored, as by Python.
    ///
    /// A frame may make two values for each five of its bytes, where carbon's clients need one for four, and have one for eight on the stack. At the usual
    /// bound of 1 MiB a hostile frame takes some 15 MB for as long as it is read.
    ///
    /// # Errors
    /// [`FrameError`]: none of the frame can be trusted.
    pub fn decode<'a>(&'a mut self, frame: &'a [u8]) -> Result<Items<'a>, FrameError> {
        let value = self.0.run(frame)?;
        let rest = self.0.walk(value).ok_or(FrameError::NoList)?;
        Ok(Items {
            machine: &self.0,
            frame,
            rest,
        })
    }

    /// Gives back what an unusually large frame took, and tells how many bytes it had.
    pub fn relax(&mut self) -> usize {
        let held = self.0.held();
        self.0.relax();
        held
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.rest.next(self.machine)?;
        Some(self.item(item))
    }
}

impl<'a> Items<'a> {
    fn item(&self, item: machine::Value) -> Result<Item<'a>, ItemError> {
        let [path, numbers] = self.machine.pair(item).ok_or(ItemError::Shape)?;
        let [timestamp, value] = self.machine.pair(numbers).ok_or(ItemError::Shape)?;
        Ok(Item {
            path: self
                .machine
                .text(path, self.frame)
                .ok_or(ItemError::Shape)?,
            timestamp: self.number(timestamp).ok_or(ItemError::Timestamp)?,
            value: self.number(value).ok_or(ItemError::Value)?,
        })
    }

    /// As Python's `float` makes it.
    fn number(&self, value: machine::Value) -> Option<f64> {
        match value {
            machine::Value::Number(number) => Some(number),
            other => number::parse(self.machine.text(other, self.frame)?),
        }
    }
}
