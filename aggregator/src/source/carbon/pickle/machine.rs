//! The stack machine.

use super::FrameError;
use super::cursor::{Cursor, Span};
use super::text;
use crate::source::carbon::number;

/// What small frames may make besides what their length allows them.
const LEAST: usize = 1024;

/// What is kept from one frame to the next, in values.
const KEPT: usize = 16 * 1024;

/// Anything on the stack. Small and copied: what it consists of lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// What is neither text nor a number nor a list: None, or an integer beyond the range of doubles.
    Other,
    /// Of any sort; booleans are 0 and 1.
    Number(f64),
    /// Bytes of the frame.
    Text(Span),
    /// Bytes among those unescaped.
    Unescaped(Span),
    /// Values next to each other.
    Tuple(Span),
    /// By its number.
    List(u32),
    /// Nobody wants to know what is in it.
    Dict,
}

/// A list is a chain of cells: it may grow at any time, and nothing has to be moved for that.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    length: u32,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    value: Value,
    next: u32,
}

/// The stack, the memo, and what values consist of.
#[derive(Debug, Default)]
pub(super) struct Machine {
    stack: Vec<Value>,
    /// How much of the stack lies below each open mark.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// Slots of the memo that are filled.
    memorised: usize,
    lists: Vec<List>,
    cells: Vec<Cell>,
    tuples: Vec<Value>,
    unescaped: Vec<u8>,
    /// How many values may still be made.
    budget: usize,
    stack_limit: usize,
}

impl Machine {
    /// Runs a pickle up to its stop, and gives what it says.
    pub(super) fn run(&mut self, frame: &[u8]) -> Result<Value, FrameError> {
        self.clear();
        self.budget = LEAST + frame.len() / 5 * 2;
        self.stack_limit = LEAST + frame.len() / 8;
        let mut cursor = Cursor::new(frame);
        loop {
            let opcode = cursor.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode, &mut cursor)?;
        }
    }

    fn clear(&mut self) {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        self.memorised = 0;
        self.lists.clear();
        self.cells.clear();
        self.tuples.clear();
        self.unescaped.clear();
    }

    /// Keeps no more memory than usual frames need.
    pub(super) fn relax(&mut self) {
        self.clear();
        self.stack.shrink_to(KEPT);
        self.marks.shrink_to(KEPT);
        self.memo.shrink_to(KEPT);
        self.lists.shrink_to(KEPT);
        self.cells.shrink_to(KEPT);
        self.tuples.shrink_to(KEPT);
        self.unescaped.shrink_to(KEPT);
    }

    /// The memory that it has, in bytes.
    pub(super) fn held(&self) -> usize {
        (self.stack.capacity() + self.tuples.capacity()) * size_of::<Value>()
            + self.marks.capacity() * size_of::<usize>()
            + self.memo.capacity() * size_of::<Option<Value>>()
            + self.lists.capacity() * size_of::<List>()
            + self.cells.capacity() * size_of::<Cell>()
            + self.unescaped.capacity()
    }

    #[inline]
    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Result<(), FrameError> {
        match opcode {
            // Protocol, and frames within the frame: those only help readers of files.
            0x80 => match cursor.byte()? {
                0..=5 => Ok(()),
                later => Err(FrameError::Protocol(later)),
            },
            0x95 => {
                let length = u64::from_le_bytes(cursor.array()?);
                let fits = usize::try_from(length).is_ok_and(|length| length <= cursor.left());
                if fits {
                    Ok(())
                } else {
                    Err(FrameError::CutShort)
                }
            }

            // Text and bytes.
            b'X' | b'B' => {
                let length = u32::from_le_bytes(cursor.array()?);
                self.push_text(cursor, length.into())
            }
            b'U' | b'C' | 0x8c => {
                let length = cursor.byte()?;
                self.push_text(cursor, length.into())
            }
            0x8d | 0x8e | 0x96 => {
                let length = u64::from_le_bytes(cursor.array()?);
                self.push_text(cursor, length)
            }
            b'T' => {
                let length = i32::from_le_bytes(cursor.array()?);
                let length = u64::try_from(length).map_err(|_| FrameError::CutShort)?;
                self.push_text(cursor, length)
            }
            b'S' => self.push_quoted(cursor),
            b'V' => self.push_unicode(cursor),

            // Numbers.
            b'G' => self.push(Value::Number(f64::from_be_bytes(cursor.array()?))),
            b'J' => self.push(Value::Number(i32::from_le_bytes(cursor.array()?).into())),
            b'K' => self.push(Value::Number(cursor.byte()?.into())),
            b'M' => self.push(Value::Number(u16::from_le_bytes(cursor.array()?).into())),
            0x8a => {
                let length = cursor.byte()?;
                self.push_long(cursor, length.into())
            }
            0x8b => {
                let length = i32::from_le_bytes(cursor.array()?);
                let length = u64::try_from(length).map_err(|_| FrameError::CutShort)?;
                self.push_long(cursor, length)
            }
            b'F' => {
                let number = number::parse(cursor.line()?.1).ok_or(FrameError::Malformed)?;
                self.push(Value::Number(number))
            }
            b'I' => {
                let line = cursor.line()?.1;
                self.push_decimal(line)
            }
            b'L' => {
                let line = cursor.line()?.1.trim_ascii();
                self.push_decimal(line.strip_suffix(b"L").unwrap_or(line))
            }
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Number(1.0)),
            0x89 => self.push(Value::Number(0.0)),

            // Tuples, lists, dictionaries.
            b')' => self.push(Value::Tuple(Span {
                start: 0,
                length: 0,
            })),
            0x85 => self.tuple_of_last(1),
            0x86 => self.tuple_of_last(2),
            0x87 => self.tuple_of_last(3),
            b't' => {
                let start = self.close_mark()?;
                self.tuple_from(start)
            }
            b']' => {
                let list = self.new_list()?;
                self.push(list)
            }
            b'l' => {
                let start = self.close_mark()?;
                let list = self.new_list()?;
                self.extend(list, start)?;
                self.push(list)
            }
            b'a' => {
                let value = self.pop()?;
                let list = self.top()?;
                self.append(list, value)
            }
            b'e' => {
                let start = self.close_mark()?;
                let list = self.below(start)?;
                self.extend(list, start)
            }
            b'}' => self.push(Value::Dict),
            b'd' => {
                let start = self.close_mark()?;
                self.pairs_from(start)?;
                self.push(Value::Dict)
            }
            b's' => {
                self.pop()?;
                self.pop()?;
                self.expect_dict(self.stack.len())
            }
            b'u' => {
                let start = self.close_mark()?;
                self.pairs_from(start)?;
                self.expect_dict(start)
            }

            // The stack and the memo.
            b'(' => {
                self.spend(1)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => {
                if self.stack.len() > self.floor() {
                    self.stack.pop();
                    return Ok(());
                }
                self.close_mark().map(|_| ())
            }
            b'1' => {
                let start = self.close_mark()?;
                self.stack.truncate(start);
                Ok(())
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'q' => {
                let slot = cursor.byte()?;
                self.memorise(slot.into(), cursor)
            }
            b'r' => {
                let slot = u32::from_le_bytes(cursor.array()?);
                self.memorise(slot.into(), cursor)
            }
            0x94 => self.memorise(self.memorised as u64, cursor),
            b'p' => {
                let slot = slot(cursor.line()?.1)?;
                self.memorise(slot, cursor)
            }
            b'h' => {
                let slot = cursor.byte()?;
                self.recall(slot.into())
            }
            b'j' => {
                let slot = u32::from_le_bytes(cursor.array()?);
                self.recall(slot.into())
            }
            b'g' => {
                let slot = slot(cursor.line()?.1)?;
                self.recall(slot)
            }

            // Classes, calls, persistent ids, buffers out of band, sets.
            b'c'
            | b'R'
            | b'b'
            | b'i'
            | b'o'
            | b'P'
            | b'Q'
            | 0x81..=0x84
            | 0x8f..=0x93
            | 0x97
            | 0x98 => Err(FrameError::Unsafe(opcode)),
            unknown => Err(FrameError::Unknown(unknown)),
        }
    }

    // The stack.

    /// What lies below belongs to others as long as a mark is open.
    #[inline]
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    #[inline]
    fn push(&mut self, value: Value) -> Result<(), FrameError> {
        if self.stack.len() >= self.stack_limit {
            return Err(FrameError::TooComplex);
        }
        self.stack.push(value);
        Ok(())
    }

    #[inline]
    fn pop(&mut self) -> Result<Value, FrameError> {
        if self.stack.len() <= self.floor() {
            return Err(FrameError::Stack);
        }
        self.stack.pop().ok_or(FrameError::Stack)
    }

    #[inline]
    fn top(&self) -> Result<Value, FrameError> {
        self.below(self.stack.len())
    }

    /// The value below this height.
    fn below(&self, height: usize) -> Result<Value, FrameError> {
        if height <= self.floor() {
            return Err(FrameError::Stack);
        }
        let value = height.checked_sub(1).and_then(|at| self.stack.get(at));
        value.copied().ok_or(FrameError::Stack)
    }

    fn close_mark(&mut self) -> Result<usize, FrameError> {
        self.marks.pop().ok_or(FrameError::Stack)
    }

    /// That many more values exist.
    #[inline]
    fn spend(&mut self, values: usize) -> Result<(), FrameError> {
        let left = self.budget.checked_sub(values);
        self.budget = left.ok_or(FrameError::TooComplex)?;
        Ok(())
    }

    // Text and numbers.

    #[inline]
    fn push_text(&mut self, cursor: &mut Cursor<'_>, length: u64) -> Result<(), FrameError> {
        let (span, _) = cursor.take(length)?;
        self.push(Value::Text(span))
    }

    fn push_quoted(&mut self, cursor: &mut Cursor<'_>) -> Result<(), FrameError> {
        let text = text::unquoted(cursor.line()?.1).ok_or(FrameError::Malformed)?;
        let start = self.unescaped.len();
        text::push_unescaped(text, &mut self.unescaped).ok_or(FrameError::Malformed)?;
        self.push_unescaped_from(start)
    }

    fn push_unicode(&mut self, cursor: &mut Cursor<'_>) -> Result<(), FrameError> {
        let (span, line) = cursor.line()?;
        if text::is_plain_unicode(line) {
            return self.push(Value::Text(span));
        }
        let start = self.unescaped.len();
        text::push_unicode(line, &mut self.unescaped).ok_or(FrameError::Malformed)?;
        self.push_unescaped_from(start)
    }

    fn push_unescaped_from(&mut self, start: usize) -> Result<(), FrameError> {
        let span = Span::new(start, self.unescaped.len() - start);
        self.push(Value::Unescaped(span.ok_or(FrameError::TooComplex)?))
    }

    fn push_long(&mut self, cursor: &mut Cursor<'_>, length: u64) -> Result<(), FrameError> {
        let (_, bytes) = cursor.take(length)?;
        let number = number::from_little_endian(bytes);
        self.push(number.map_or(Value::Other, Value::Number))
    }

    /// An integer in digits. Booleans of protocol 0 are `00` and `01`.
    fn push_decimal(&mut self, digits: &[u8]) -> Result<(), FrameError> {
        let digits = digits.trim_ascii();
        let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
        if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
            return Err(FrameError::Malformed);
        }
        let number = number::parse(digits).filter(|number| number.is_finite());
        self.push(number.map_or(Value::Other, Value::Number))
    }

    // Tuples, lists, dictionaries.

    #[inline]
    fn tuple_of_last(&mut self, count: usize) -> Result<(), FrameError> {
        let start = self.stack.len().checked_sub(count);
        let start = start.filter(|start| *start >= self.floor());
        self.tuple_from(start.ok_or(FrameError::Stack)?)
    }

    #[inline]
    fn tuple_from(&mut self, start: usize) -> Result<(), FrameError> {
        let count = self.stack.len() - start;
        self.spend(count)?;
        let span = Span::new(self.tuples.len(), count).ok_or(FrameError::TooComplex)?;
        self.tuples.extend(self.stack.drain(start..));
        self.push(Value::Tuple(span))
    }

    fn new_list(&mut self) -> Result<Value, FrameError> {
        self.spend(1)?;
        let number = u32::try_from(self.lists.len()).map_err(|_| FrameError::TooComplex)?;
        self.lists.push(List {
            first: 0,
            last: 0,
            length: 0,
        });
        Ok(Value::List(number))
    }

    /// Moves what lies on the stack from there on into a list.
    fn extend(&mut self, list: Value, start: usize) -> Result<(), FrameError> {
        for at in start..self.stack.len() {
            let value = self.stack.get(at).copied().ok_or(FrameError::Stack)?;
            self.append(list, value)?;
        }
        self.stack.truncate(start);
        // It must be a list even where there is nothing to add.
        matches!(list, Value::List(_))
            .then_some(())
            .ok_or(FrameError::Stack)
    }

    #[inline]
    fn append(&mut self, list: Value, value: Value) -> Result<(), FrameError> {
        let Value::List(number) = list else {
            return Err(FrameError::Stack);
        };
        self.spend(1)?;
        let cell = u32::try_from(self.cells.len()).map_err(|_| FrameError::TooComplex)?;
        let list = usize::try_from(number)
            .ok()
            .and_then(|at| self.lists.get_mut(at));
        let list = list.ok_or(FrameError::Stack)?;
        if list.length == 0 {
            list.first = cell;
        } else if let Some(last) = self.cells.get_mut(list.last as usize) {
            last.next = cell;
        }
        list.last = cell;
        list.length += 1;
        self.cells.push(Cell { value, next: 0 });
        Ok(())
    }

    /// Drops keys and values.
    fn pairs_from(&mut self, start: usize) -> Result<(), FrameError> {
        let count = self.stack.len() - start;
        self.stack.truncate(start);
        if count.is_multiple_of(2) {
            Ok(())
        } else {
            Err(FrameError::Stack)
        }
    }

    fn expect_dict(&self, height: usize) -> Result<(), FrameError> {
        match self.below(height)? {
            Value::Dict => Ok(()),
            _ => Err(FrameError::Stack),
        }
    }

    // The memo.

    #[inline]
    fn memorise(&mut self, slot: u64, cursor: &Cursor<'_>) -> Result<(), FrameError> {
        let value = self.top()?;
        let slot = usize::try_from(slot).map_err(|_| FrameError::Memo)?;
        if slot > cursor.at() {
            return Err(FrameError::Memo);
        }
        if slot >= self.memo.len() {
            self.spend(slot + 1 - self.memo.len())?;
            self.memo.resize(slot + 1, None);
        }
        if let Some(place) = self.memo.get_mut(slot)
            && place.replace(value).is_none()
        {
            self.memorised += 1;
        }
        Ok(())
    }

    #[inline]
    fn recall(&mut self, slot: u64) -> Result<(), FrameError> {
        let slot = usize::try_from(slot)
            .ok()
            .and_then(|slot| self.memo.get(slot));
        let value = slot.copied().flatten().ok_or(FrameError::Memo)?;
        self.push(value)
    }

    // What came of it.

    /// The two values of a tuple or list of two.
    #[inline]
    pub(super) fn pair(&self, value: Value) -> Option<[Value; 2]> {
        let mut walk = self.walk(value).filter(|walk| walk.left == 2)?;
        Some([walk.next(self)?, walk.next(self)?])
    }

    /// The bytes of a text.
    #[inline]
    pub(super) fn text<'a>(&'a self, value: Value, frame: &'a [u8]) -> Option<&'a [u8]> {
        match value {
            Value::Text(span) => span.of(frame),
            Value::Unescaped(span) => span.of(&self.unescaped),
            _ => None,
        }
    }

    /// From the first to the last value of a tuple or list.
    #[inline]
    pub(super) fn walk(&self, value: Value) -> Option<Walk> {
        match value {
            Value::Tuple(span) => Some(Walk {
                chained: false,
                at: span.start,
                left: span.length,
            }),
            Value::List(number) => {
                let list = self.lists.get(usize::try_from(number).ok()?)?;
                Some(Walk {
                    chained: true,
                    at: list.first,
                    left: list.length,
                })
            }
            _ => None,
        }
    }
}

/// A place in a tuple or list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Through cells, or through values that lie next to each other.
    chained: bool,
    at: u32,
    left: u32,
}

impl Walk {
    #[inline]
    pub(super) fn next(&mut self, machine: &Machine) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        let at = usize::try_from(self.at).ok()?;
        if self.chained {
            let cell = machine.cells.get(at)?;
            self.at = cell.next;
            Some(cell.value)
        } else {
            self.at += 1;
            machine.tuples.get(at).copied()
        }
    }
}

/// A memo's slot in digits.
fn slot(line: &[u8]) -> Result<u64, FrameError> {
    let text = std::str::from_utf8(line.trim_ascii()).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or(FrameError::Memo)
}
