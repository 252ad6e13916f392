//! A condition applied to a frame: which rows satisfy it.

use std::ops::Range;

use polars::prelude::*;

use super::{Condition, ConditionError, Expression, Literal, Name, Operator};
use crate::recipe::{list, nearest};
use crate::runs::columns::absent;

impl Condition {
    /// Whether each row satisfies the condition. There is no null among the answers.
    ///
    /// # Errors
    /// When it names a column that is not there, or compares one with a value of another type.
    pub fn apply(&self, frame: &DataFrame) -> Result<BooleanChunked, ConditionError> {
        self.rows(&self.root, frame)
    }

    fn rows(&self, expression: &Expression, frame: &DataFrame) -> Result<BooleanChunked, ConditionError> {
        Ok(match expression {
            Expression::And(left, right) => &self.rows(left, frame)? & &self.rows(right, frame)?,
            Expression::Or(left, right) => &self.rows(left, frame)? | &self.rows(right, frame)?,
            Expression::Not(inner) => !&self.rows(inner, frame)?,
            Expression::Compare { column, operator, value, place } => {
                let Ok(found) = frame.column(&column.text) else {
                    absent(&column.text, frame).map_err(|advice| self.unknown(column, advice))?;
                    return Ok(of_null(*operator, value, frame.height()));
                };
                let series = found.as_materialized_series();
                compare(series, *operator, value).ok_or_else(|| self.misfit(series, *operator, place))?
            }
        })
    }

    fn unknown(&self, column: &Name, advice: String) -> ConditionError {
        let message = format!("no run has the column `{}`", column.text);
        ConditionError::new(&self.text, column.place.clone(), message, "not a column").help(advice)
    }

    fn misfit(&self, series: &Series, operator: Operator, place: &Range<usize>) -> ConditionError {
        let kind = match series.dtype() {
            DataType::Boolean => "booleans",
            DataType::String => "text",
            _ => "numbers",
        };
        let sign = operator.sign();
        let message = format!("`{}` holds {kind}: `{sign}` of this value means nothing", series.name());
        let help = match kind {
            "booleans" => "compare it by `==` or `!=` with `true`, `false` or `null`",
            "text" => {
                "compare it with a text in quotes, such as `'80 epochs'`; `~` asks whether it contains one"
            }
            _ => "compare it with a number; `==` and `!=` take `null`, too",
        };
        ConditionError::new(&self.text, place.clone(), message, "this comparison").help(help.to_owned())
    }
}

/// The rows that satisfy a comparison of a column that no run has: all of them or none.
fn of_null(operator: Operator, value: &Literal, rows: usize) -> BooleanChunked {
    let holds = match operator {
        Operator::Equal => *value == Literal::Null,
        Operator::NotEqual => *value != Literal::Null,
        _ => false,
    };
    BooleanChunked::full("".into(), holds, rows)
}

/// What to say of a column that is not there.
pub fn similar_column(name: &str, frame: &DataFrame) -> String {
    let names = || frame.columns().iter().map(|column| column.name().as_str());
    let is_last = |column: &&str| column.rsplit('.').next() == Some(name);
    if let Some(near) = names().find(is_last).or_else(|| nearest(name, names())) {
        return format!("did you mean `{near}`?");
    }
    let plain = names().filter(|column| !column.starts_with("recipe."));
    format!("columns are {}, and `recipe.` with a key of the recipe", list(plain))
}

/// The rows that satisfy a comparison; `None` if it means nothing for the type of the column.
fn compare(series: &Series, operator: Operator, value: &Literal) -> Option<BooleanChunked> {
    use Operator::{Contains, Equal, NotEqual};
    match (value, series.dtype()) {
        (Literal::Null, _) => match operator {
            Equal => Some(series.is_null()),
            NotEqual => Some(series.is_not_null()),
            _ => None,
        },
        (Literal::Text(text), DataType::String) => {
            let column = series.str().ok()?;
            Some(match operator {
                Contains => {
                    column.iter().map(|cell| cell.is_some_and(|cell| cell.contains(text.as_str()))).collect()
                }
                ordered => order(column, text.as_str(), ordered)?,
            })
        }
        (Literal::Bool(flag), DataType::Boolean) => {
            let flag = BooleanChunked::full("".into(), *flag, 1);
            equality(series.bool().ok()?, &flag, operator)
        }
        // Cells of a mixed column are text.
        (Literal::Bool(flag), DataType::String) => {
            equality(series.str().ok()?, if *flag { "true" } else { "false" }, operator)
        }
        (Literal::Number(number), DataType::String) => {
            let numbers = series.str().ok()?.iter().map(|cell| cell?.parse::<f64>().ok());
            let numbers: Float64Chunked = numbers.collect();
            order(&numbers, *number, operator)
        }
        (Literal::Number(number), DataType::Int64 | DataType::UInt64 | DataType::Float64) => {
            let numbers = series.cast(&DataType::Float64).ok()?;
            order(numbers.f64().ok()?, *number, operator)
        }
        _ => None,
    }
}

fn order<T, R: Copy>(column: &T, value: R, operator: Operator) -> Option<BooleanChunked>
where
    T: ChunkCompareEq<R, Item = BooleanChunked> + ChunkCompareIneq<R, Item = BooleanChunked>,
{
    let rows = match operator {
        Operator::Less => column.lt(value),
        Operator::AtMost => column.lt_eq(value),
        Operator::Greater => column.gt(value),
        Operator::AtLeast => column.gt_eq(value),
        equal => return equality(column, value, equal),
    };
    Some(present(&rows))
}

fn equality<T, R>(column: &T, value: R, operator: Operator) -> Option<BooleanChunked>
where
    T: ChunkCompareEq<R, Item = BooleanChunked>,
{
    match operator {
        Operator::Equal => Some(present(&column.equal(value))),
        Operator::NotEqual => Some(!&present(&column.equal(value))),
        _ => None,
    }
}

/// A missing value satisfies no comparison.
fn present(rows: &BooleanChunked) -> BooleanChunked {
    rows.iter().map(|row| row == Some(true)).collect()
}
