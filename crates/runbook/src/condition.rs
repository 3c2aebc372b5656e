//! `only_when`: a small language over the mode, parameters and what earlier steps gave.
//!
//! ```text
//! condition  = all { "or" all }          all   = one { "and" one }
//! one        = "not" one | "(" condition ")" | value [ ("==" | "!=") value ]
//! value      = 'text' | "text" | mode | parameter | step-id.outcome | step-id.answer | step-id.output
//! ```
//!
//! A value by itself holds if it is given and not empty. What is not known yet makes the condition neither true nor false.

use std::fmt;

use crate::template::Name;

/// The name that means the mode of a run.
pub const MODE: &str = "mode";

/// Deeper than people nest, shallower than a stack.
const DEEPEST: usize = 32;

/// More words than people read.
const LONGEST: usize = 256;

/// A condition with the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// As it is written.
    pub text: String,
    expression: Expression,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Given(Operand),
    Equal(Operand, Operand),
}

/// A side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A text in quotes.
    Text(String),
    /// The mode of the run.
    Mode,
    /// A parameter or an output.
    Name(Name),
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It has this value.
    Value(String),
    /// It has none, and will have none.
    Nothing,
    /// That is seen when the time comes.
    NotYet,
}

/// Where a condition stops being one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Bytes of the text before it.
    pub at: usize,
    /// What was expected.
    pub message: String,
}

/// Something that a condition compares, and where it stands in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// One side.
    pub left: Operand,
    /// The other; none: it is only asked whether it is given.
    pub right: Option<Operand>,
}

impl Condition {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Condition, Wrong> {
        let tokens = tokens(text)?;
        if let Some((at, _)) = tokens.get(LONGEST) {
            return Err(Wrong { at: *at, message: "is too long: ask less, or in more steps".to_owned() });
        }
        let mut parser = Parser { tokens: &tokens, next: 0, end: text.len() };
        let expression = parser.any(0)?;
        match parser.peek() {
            None => Ok(Condition { text: text.to_owned(), expression }),
            Some(_) => Err(parser.wrong("expected `and`, `or` or the end")),
        }
    }

    /// Whether it holds; none: that is not known yet.
    pub fn holds(&self, known: &dyn Fn(&Operand) -> Known) -> Option<bool> {
        self.expression.holds(known)
    }

    /// Everything that is compared or asked for.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let mut found = Vec::new();
        self.expression.collect(&mut found);
        found
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    fn holds(&self, known: &dyn Fn(&Operand) -> Known) -> Option<bool> {
        match self {
            Expression::Or(one, other) => match (one.holds(known), other.holds(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Expression::And(one, other) => match (one.holds(known), other.holds(known)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expression::Not(inner) => inner.holds(known).map(|holds| !holds),
            Expression::Given(operand) => match operand.known(known) {
                Known::Value(value) => Some(!value.is_empty()),
                Known::Nothing => Some(false),
                Known::NotYet => None,
            },
            Expression::Equal(one, other) => match (one.known(known), other.known(known)) {
                (Known::NotYet, _) | (_, Known::NotYet) => None,
                (one, other) => Some(one == other),
            },
        }
    }

    fn collect(&self, found: &mut Vec<Comparison>) {
        match self {
            Expression::Or(one, other) | Expression::And(one, other) => {
                one.collect(found);
                other.collect(found);
            }
            Expression::Not(inner) => inner.collect(found),
            Expression::Given(operand) => found.push(Comparison { left: operand.clone(), right: None }),
            Expression::Equal(one, other) => {
                found.push(Comparison { left: one.clone(), right: Some(other.clone()) });
            }
        }
    }
}

impl Operand {
    fn known(&self, known: &dyn Fn(&Operand) -> Known) -> Known {
        match self {
            Operand::Text(text) => Known::Value(text.clone()),
            operand => known(operand),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Equal,
    Unequal,
    And,
    Or,
    Not,
    Operand(Operand),
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let wrong = |message: &str| Wrong { at, message: message.to_owned() };
        let first = rest.chars().next().unwrap_or(' ');
        let (length, token) = match first {
            c if c.is_whitespace() => (c.len_utf8(), None),
            '(' => (1, Some(Token::Open)),
            ')' => (1, Some(Token::Close)),
            '=' if rest.starts_with("==") => (2, Some(Token::Equal)),
            '!' if rest.starts_with("!=") => (2, Some(Token::Unequal)),
            '=' => return Err(wrong("write == to compare")),
            '\'' | '"' => {
                let inside = rest.get(1..).and_then(|rest| rest.split_once(first)).map(|(inside, _)| inside);
                let inside = inside.ok_or_else(|| wrong("the quote is never closed"))?;
                (inside.len() + 2, Some(Token::Operand(Operand::Text(inside.to_owned()))))
            }
            c if c.is_alphanumeric() => {
                let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let token = match rest.get(..length).unwrap_or_default() {
                    "and" => Token::And,
                    "or" => Token::Or,
                    "not" => Token::Not,
                    MODE => Token::Operand(Operand::Mode),
                    word => Token::Operand(Operand::Name(Name::read(word).ok_or_else(|| wrong("not a name"))?)),
                };
                (length, Some(token))
            }
            _ => return Err(wrong("has no meaning here: use names, 'texts', ==, !=, and, or, not and parentheses")),
        };
        tokens.extend(token.map(|token| (at, token)));
        at += length;
    }
    Ok(tokens)
}

struct Parser<'t> {
    tokens: &'t [(usize, Token)],
    next: usize,
    end: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        self.next += usize::from(is_next);
        is_next
    }

    fn wrong(&self, message: &str) -> Wrong {
        Wrong { at: self.tokens.get(self.next).map_or(self.end, |(at, _)| *at), message: message.to_owned() }
    }

    fn any(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut one = self.all(depth)?;
        while self.takes(&Token::Or) {
            one = Expression::Or(Box::new(one), Box::new(self.all(depth)?));
        }
        Ok(one)
    }

    fn all(&mut self, depth: usize) -> Result<Expression, Wrong> {
        let mut one = self.one(depth)?;
        while self.takes(&Token::And) {
            one = Expression::And(Box::new(one), Box::new(self.one(depth)?));
        }
        Ok(one)
    }

    fn one(&mut self, depth: usize) -> Result<Expression, Wrong> {
        if depth > DEEPEST {
            return Err(self.wrong("is nested too deeply"));
        }
        if self.takes(&Token::Not) {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.takes(&Token::Open) {
            let inner = self.any(depth + 1)?;
            return if self.takes(&Token::Close) { Ok(inner) } else { Err(self.wrong("expected )")) };
        }
        let left = self.operand()?;
        if self.takes(&Token::Equal) {
            return Ok(Expression::Equal(left, self.operand()?));
        }
        if self.takes(&Token::Unequal) {
            return Ok(Expression::Not(Box::new(Expression::Equal(left, self.operand()?))));
        }
        Ok(Expression::Given(left))
    }

    fn operand(&mut self) -> Result<Operand, Wrong> {
        match self.peek() {
            Some(Token::Operand(operand)) => {
                let operand = operand.clone();
                self.next += 1;
                Ok(operand)
            }
            _ => Err(self.wrong("expected a name or a 'text'")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use super::*;

    fn known(operand: &Operand) -> Known {
        match operand {
            Operand::Mode => Known::Value("practice".into()),
            Operand::Name(Name::Parameter(name)) if name == "absent" => Known::Nothing,
            Operand::Name(Name::Parameter(name)) => Known::Value(name.clone()),
            Operand::Name(Name::Output { name, .. }) if name == "answer" => Known::Value("yes".into()),
            _ => Known::NotYet,
        }
    }

    #[test]
    fn conditions_hold_or_not_or_are_not_known_yet() {
        let cases = [
            ("mode == 'practice'", Some(true)),
            ("mode != \"practice\"", Some(false)),
            ("not mode == 'real' and a == 'a'", Some(true)),
            ("a == 'b' or a == 'c' or (a == 'a' and b != a)", Some(true)),
            ("absent", Some(false)),
            ("not absent", Some(true)),
            ("absent == 'x'", Some(false)),
            ("a", Some(true)),
            ("''", Some(false)),
            ("ask.answer == 'yes'", Some(true)),
            ("ask.outcome == 'passed'", None),
            ("ask.outcome == 'passed' or a", Some(true)),
            ("ask.outcome == 'passed' and absent", Some(false)),
            ("not ask.outcome == 'passed'", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Condition::parse(text).unwrap().holds(&known), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told_where_it_ends_to_be_one() {
        let cases = [
            ("", 0),
            ("mode = 'real'", 5),
            ("mode == 'real", 8),
            ("mode == ", 8),
            ("mode == 'a' 'b'", 12),
            ("(mode", 5),
            ("a && b", 2),
            ("a.b.c", 0),
            ("not", 3),
            ("and a", 0),
        ];
        for (text, at) in cases {
            assert_eq!(Condition::parse(text).unwrap_err().at, at, "{text}");
        }
        assert!(Condition::parse(&"(".repeat(100_000)).is_err(), "and the stack holds");
        assert!(Condition::parse(&"not ".repeat(100_000)).is_err());
        let long = vec!["a"; 100_000].join(" or ");
        assert!(Condition::parse(&long).is_err(), "a tree of them would be as deep as they are many");
    }
}
