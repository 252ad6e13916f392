//! From words to a condition.

use std::iter::Peekable;
use std::ops::Range;
use std::vec::IntoIter;

use super::lexer::{Placed, Token, tokens};
use super::{ConditionError, Expression, Literal, Name, Operator};

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 64;

/// Parses a condition.
pub fn parse(text: &str) -> Result<Expression, ConditionError> {
    let mut parser = Parser { text, tokens: tokens(text)?.into_iter().peekable(), depth: 0 };
    let root = parser.or()?;
    match parser.tokens.next() {
        None => Ok(root),
        Some((Token::Close, place)) => Err(parser.error(place, "there is no `(` for this `)`")),
        Some((_, place)) => Err(parser
            .error(place, "the condition should end here")
            .help("join comparisons by `and` or `or`".to_owned())),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Peekable<IntoIter<Placed>>,
    depth: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expression, ConditionError> {
        let mut left = self.and()?;
        while self.takes_word("or") {
            left = Expression::Or(left.into(), self.and()?.into());
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, ConditionError> {
        let mut left = self.not()?;
        while self.takes_word("and") {
            left = Expression::And(left.into(), self.not()?.into());
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, ConditionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let next = self.tokens.peek().map(|(_, place)| place.clone());
            let place = next.unwrap_or_else(|| self.end());
            return Err(self.error(place, format!("more than {MAX_DEPTH} levels")));
        }
        let inner =
            if self.takes_word("not") { Expression::Not(self.not()?.into()) } else { self.primary()? };
        self.depth -= 1;
        Ok(inner)
    }

    fn primary(&mut self) -> Result<Expression, ConditionError> {
        match self.tokens.next() {
            Some((Token::Open, open)) => {
                let inner = self.or()?;
                match self.tokens.next() {
                    Some((Token::Close, _)) => Ok(inner),
                    Some((_, place)) => Err(self.error(place, "expected `and`, `or` or `)`")),
                    None => Err(self.error(open, "the closing `)` is missing")),
                }
            }
            Some((Token::Word(word), place)) if !is_reserved(&word) => {
                self.comparison(Name { text: word, place })
            }
            Some((Token::Column(text), place)) => self.comparison(Name { text, place }),
            Some((_, place)) => Err(self
                .error(place, "expected a column")
                .help("a comparison starts with a column: `metrics.top1 > 80`".to_owned())),
            None => Err(self
                .error(self.end(), "expected a column, found the end")
                .help("write a condition such as `metrics.top1 > 80 and status == 'finished'`".to_owned())),
        }
    }

    fn comparison(&mut self, column: Name) -> Result<Expression, ConditionError> {
        let Some((Token::Operator(operator), place)) =
            self.tokens.next_if(|(token, _)| matches!(token, Token::Operator(_)))
        else {
            let place = column.place.clone();
            return Ok(Expression::Compare {
                column,
                operator: Operator::Equal,
                value: Literal::Bool(true),
                place,
            });
        };
        let (value, end) = self.literal(operator, &place)?;
        let place = column.place.start..end;
        Ok(Expression::Compare { column, operator, value, place })
    }

    /// The right side of a comparison, and its end.
    fn literal(&mut self, operator: Operator, at: &Range<usize>) -> Result<(Literal, usize), ConditionError> {
        let Some((token, place)) = self.tokens.next() else {
            let message = format!("nothing to compare with after `{}`", operator.sign());
            return Err(self.error(at.clone(), message));
        };
        let value = match token {
            Token::Number(number) => Literal::Number(number),
            Token::Text(text) => Literal::Text(text),
            Token::Word(word) => match word.as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ => {
                    let error = self.error(place, format!("expected a value, found the word `{word}`"));
                    return Err(error.help(format!("text stands in quotes: `'{word}'`")));
                }
            },
            _ => {
                let error = self.error(place, "expected a value");
                let help = "a value is a number, a text in quotes, `true`, `false` or `null`";
                return Err(error.help(help.to_owned()));
            }
        };
        Ok((value, place.end))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        self.tokens.next_if(|(token, _)| matches!(token, Token::Word(found) if found == word)).is_some()
    }

    fn end(&self) -> Range<usize> {
        // After the end there is nothing to point at.
        let last = self.text.char_indices().next_back();
        last.map_or(0..0, |(at, letter)| at..at + letter.len_utf8())
    }

    fn error(&self, place: Range<usize>, message: impl Into<String>) -> ConditionError {
        ConditionError::new(self.text, place, message, "here")
    }
}

fn is_reserved(word: &str) -> bool {
    ["and", "or", "not", "true", "false", "null"].contains(&word)
}
