//! The grammar of targets: paths, numbers, texts and calls, `sumSeries(a.*.b)` or `a.*.b|sumSeries()`.

use super::budget::QueryError;

/// A target that is longer is refused, in bytes.
const LONGEST: usize = 16 * 1024;

/// How deep calls may stand in each other.
const DEEPEST: usize = 32;

/// What a target, or an argument of a call, is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// A pattern of paths, with its backslashes.
    Path(String),
    Call(Call),
    /// A number without a point or an exponent.
    Whole(i64),
    Number(f64),
    Text(String),
    Bool(bool),
    None,
}

/// A function with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) arguments: Vec<Expression>,
    /// `limit=3`.
    pub(super) named: Vec<(String, Expression)>,
}

/// Reads a target.
///
/// # Errors
/// For what is none, with the place where it ends to be one.
pub(super) fn parse(target: &str) -> Result<Expression, QueryError> {
    if target.len() > LONGEST {
        return Err(QueryError::bad(format!(
            "a target of {} bytes is too long, at most {LONGEST} are taken",
            target.len()
        )));
    }
    let mut reader = Reader { target, at: 0 };
    let expression = reader.series(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(expression),
        Some(_) => Err(reader.wrong("nothing more")),
    }
}

struct Reader<'a> {
    target: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.target.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn takes(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn wrong(&self, wanted: &str) -> QueryError {
        let near: String = self.rest().chars().take(20).collect();
        let place = self
            .target
            .get(..self.at)
            .map_or(0, |before| before.chars().count())
            + 1;
        QueryError::bad(format!(
            "cannot read the target: {wanted} is expected at character {place}, before {near:?}"
        ))
    }

    /// A path or a call, with the calls that it is piped through.
    fn series(&mut self, depth: usize) -> Result<Expression, QueryError> {
        if depth > DEEPEST {
            return Err(QueryError::bad(format!(
                "calls stand more than {DEEPEST} deep in each other"
            )));
        }
        self.skip_space();
        let mut expression = match self.call(depth)? {
            Some(call) => Expression::Call(call),
            None => Expression::Path(self.path()?),
        };
        let mut pipes = 0;
        loop {
            let before = self.at;
            self.skip_space();
            if !self.takes('|') {
                self.at = before;
                return Ok(expression);
            }
            self.skip_space();
            pipes += 1;
            if depth + pipes > DEEPEST {
                return Err(QueryError::bad(format!(
                    "calls stand more than {DEEPEST} deep in each other"
                )));
            }
            let mut call = self
                .call(depth + pipes)?
                .ok_or_else(|| self.wrong("a call"))?;
            call.arguments.insert(0, expression);
            expression = Expression::Call(call);
        }
    }

    /// A call, if one begins here.
    fn call(&mut self, depth: usize) -> Result<Option<Call>, QueryError> {
        let before = self.at;
        let Some(function) = self.word() else {
            return Ok(None);
        };
        self.skip_space();
        if !self.takes('(') {
            self.at = before;
            return Ok(None);
        }
        let mut call = Call {
            function,
            arguments: Vec::new(),
            named: Vec::new(),
        };
        self.skip_space();
        if self.takes(')') {
            return Ok(Some(call));
        }
        loop {
            self.skip_space();
            match self.name_of_argument() {
                Some(name) => call.named.push((name, self.argument(depth)?)),
                None if call.named.is_empty() => call.arguments.push(self.argument(depth)?),
                None => return Err(self.wrong("an argument with a name, as before it,")),
            }
            self.skip_space();
            if self.takes(')') {
                return Ok(Some(call));
            }
            if !self.takes(',') {
                return Err(self.wrong("',' or ')'"));
            }
        }
    }

    fn argument(&mut self, depth: usize) -> Result<Expression, QueryError> {
        self.skip_space();
        if let Some(quote @ ('"' | '\'')) = self.peek() {
            return self.text(quote);
        }
        if let Some(constant) = self.constant() {
            return Ok(constant);
        }
        self.series(depth + 1)
    }

    /// A number or a word with a meaning of its own, if nothing else stands before the next comma or parenthesis.
    fn constant(&mut self) -> Option<Expression> {
        let rest = self.rest();
        let end = rest.find([',', ')']).unwrap_or(rest.len());
        let text = rest.get(..end)?.trim_end();
        let constant = match text.to_ascii_lowercase().as_str() {
            "true" => Expression::Bool(true),
            "false" => Expression::Bool(false),
            "none" => Expression::None,
            "inf" => Expression::Number(f64::INFINITY),
            number => read_number(number)?,
        };
        self.at += end;
        Some(constant)
    }

    fn text(&mut self, quote: char) -> Result<Expression, QueryError> {
        let start = self.at + 1;
        let mut escaped = false;
        for (offset, c) in self.target.get(start..).unwrap_or_default().char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.at = start + offset + 1;
                    let text = self.target.get(start..start + offset).unwrap_or_default();
                    return Ok(Expression::Text(text.to_owned()));
                }
                _ => {}
            }
        }
        Err(self.wrong("the end of the text"))
    }

    /// Letters, digits and underscores, of which a digit is not the first.
    fn word(&mut self) -> Option<String> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let word = rest.get(..end)?;
        let starts_well = word.starts_with(|c: char| !c.is_ascii_digit());
        let word = starts_well.then(|| word.to_owned());
        self.at += if starts_well { end } else { 0 };
        word
    }

    fn name_of_argument(&mut self) -> Option<String> {
        let before = self.at;
        let name = self.word();
        self.skip_space();
        if name.is_some() && self.takes('=') {
            return name;
        }
        self.at = before;
        None
    }

    /// A pattern: everything up to a character that means something else. Within braces commas are its own.
    fn path(&mut self) -> Result<String, QueryError> {
        let mut braces = 0_u32;
        let mut end = 0;
        let mut characters = self.rest().char_indices();
        while let Some((offset, c)) = characters.next() {
            match c {
                '\\' => match characters.next() {
                    Some((offset, c)) => end = offset + c.len_utf8(),
                    None => return Err(self.wrong("something after the last backslash")),
                },
                '{' => braces += 1,
                '}' if braces > 0 => braces -= 1,
                ',' if braces > 0 => {}
                '(' | ')' | ',' | '}' | '\'' | '"' | '|' => break,
                c if c.is_whitespace() || c.is_control() => break,
                _ => {}
            }
            end = end.max(offset + c.len_utf8());
        }
        let path = self.rest().get(..end).unwrap_or_default().to_owned();
        if path.is_empty() || braces > 0 {
            return Err(self.wrong("a path or a call"));
        }
        self.at += end;
        Ok(path)
    }
}

fn read_number(text: &str) -> Option<Expression> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(match text.parse() {
            Ok(number) => Expression::Whole(number),
            Err(_) => Expression::Number(text.parse().ok()?),
        });
    }
    // What Rust takes beside these is no number in a target.
    let digits = unsigned
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'-'));
    digits
        .then(|| text.parse().ok())
        .flatten()
        .map(Expression::Number)
}

/// The path as it is shown: without its backslashes.
pub(super) fn shown(path: &str) -> String {
    let mut shown = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        shown.extend(if c == '\\' {
            characters.next()
        } else {
            Some(c)
        });
    }
    shown
}

/// The first path in an expression.
pub(super) fn first_path(expression: &Expression) -> Option<&str> {
    match expression {
        Expression::Path(path) => Some(path),
        Expression::Call(call) => call.arguments.iter().find_map(first_path),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Expression {
        Expression::Path(path.to_owned())
    }

    fn call(function: &str, arguments: Vec<Expression>) -> Expression {
        Expression::Call(Call {
            function: function.to_owned(),
            arguments,
            named: Vec::new(),
        })
    }

    #[test]
    fn targets_are_read() {
        let text = |text: &str| Expression::Text(text.to_owned());
        for (target, wanted) in [
            ("a.b-c.*", path("a.b-c.*")),
            (" a.{b,c{d,e}}x.f ", path("a.{b,c{d,e}}x.f")),
            ("a;host=x", path("a;host=x")),
            (r"a\(1\).b", path(r"a\(1\).b")),
            ("sum( a , b )", call("sum", vec![path("a"), path("b")])),
            (
                "alias(f(x),'')",
                call("alias", vec![call("f", vec![path("x")]), text("")]),
            ),
            (r#"f(x,"1'min")"#, call("f", vec![path("x"), text("1'min")])),
            (
                "scale(10.x,-1.5e-3)",
                call("scale", vec![path("10.x"), Expression::Number(-0.0015)]),
            ),
            (
                "f(1,2.0,true,None,1min)",
                call(
                    "f",
                    vec![
                        Expression::Whole(1),
                        Expression::Number(2.0),
                        Expression::Bool(true),
                        Expression::None,
                        path("1min"),
                    ],
                ),
            ),
            (
                "a|sum()|scale( 2 )",
                call(
                    "scale",
                    vec![call("sum", vec![path("a")]), Expression::Whole(2)],
                ),
            ),
            ("f(truely.x)", call("f", vec![path("truely.x")])),
        ] {
            assert_eq!(parse(target), Ok(wanted), "{target}");
        }
        let Ok(Expression::Call(named)) = parse("f(a, limit = 3)") else {
            panic!("not a call");
        };
        assert_eq!(named.named, [("limit".to_owned(), Expression::Whole(3))]);
        assert_eq!(shown(r"a\(1\)\\"), r"a(1)\");
    }

    #[test]
    fn what_is_no_target_is_refused_with_its_place() {
        for (target, problem) in [
            ("", "a path or a call is expected at character 1"),
            ("f(", "a path or a call is expected at character 3"),
            ("f(a", "',' or ')' is expected at character 4"),
            ("f(a))", "nothing more is expected at character 5"),
            ("a b", "nothing more is expected at character 3"),
            ("f('a)", "the end of the text is expected at character 3"),
            ("a.{b", "a path or a call is expected at character 1"),
            ("a|b", "a call is expected at character 3"),
            ("f(x=1,a)", "an argument with a name"),
            ("a\\", "after the last backslash"),
        ] {
            let error = parse(target).unwrap_err().to_string();
            assert!(error.contains(problem), "{target}: {error}");
        }
        let deep = format!("{}a{}", "f(".repeat(5000), ")".repeat(5000));
        assert!(parse(&deep).unwrap_err().to_string().contains("32 deep"));
        let piped = format!("a{}", "|f()".repeat(40));
        assert!(parse(&piped).unwrap_err().to_string().contains("32 deep"));
        assert!(
            parse(&"a".repeat(17_000))
                .unwrap_err()
                .to_string()
                .contains("too long")
        );
    }
}
