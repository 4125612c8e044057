//! Which messages of a channel a client wants: a `JMESPath` expression over `{name, headers}`.
//!
//! Clients choose the expressions, so they are of a kind whose price grows with their length and the message's alone:
//! fields, comparisons, conditions, literals, and functions that look at text. What multiplies its input (lists made of
//! selections, projections, pipes through them) is refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use jmespath::ast::Ast;
use jmespath::{Expression, Variable};
use parking_lot::Mutex;

use crate::limits::{FILTER_BYTES_MAX, FILTER_NESTING_MAX, FILTER_NS, FILTER_NS_PER_BYTE, FILTERS_KEPT};
use crate::message::{Field, Message};

/// The functions that a filter may use.
const FUNCTIONS: [&str; 6] = ["contains", "ends_with", "length", "not_null", "starts_with", "type"];

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(Expression<'static>);

/// The filters in use: one for each expression, whoever asks for it.
#[derive(Debug, Default)]
pub struct Filters(Mutex<InUse>);

#[derive(Debug, Default)]
struct InUse {
    by_text: HashMap<Box<str>, Weak<Filter>>,
    /// When there are so many, those that nobody uses any more are forgotten.
    most: usize,
}

impl Filters {
    /// The filter of an expression.
    pub fn compile(&self, text: &str) -> Result<Arc<Filter>, NoFilter> {
        let InUse { by_text, most } = &mut *self.0.lock();
        if let Some(filter) = by_text.get(text).and_then(Weak::upgrade) {
            return Ok(filter);
        }
        let filter = Arc::new(Filter::compile(text)?);
        if by_text.len() >= FILTERS_KEPT.max(*most) {
            by_text.retain(|_, filter| filter.strong_count() > 0);
            *most = 2 * by_text.len();
        }
        by_text.insert(text.into(), Arc::downgrade(&filter));
        Ok(filter)
    }
}

/// Why an expression is no filter; for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct NoFilter(String);

impl fmt::Display for NoFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoFilter {}

impl Filter {
    /// Reads an expression.
    pub fn compile(text: &str) -> Result<Self, NoFilter> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(NoFilter(format!("an expression has at most {FILTER_BYTES_MAX} bytes")));
        }
        // The parser goes as deep as the expression does.
        if text.bytes().filter(|byte| b"([{!&".contains(byte)).count() > FILTER_NESTING_MAX {
            return Err(NoFilter(format!("an expression has at most {FILTER_NESTING_MAX} brackets and negations")));
        }
        let expression = jmespath::compile(text).map_err(|_| NoFilter("it is not JMESPath".into()))?;
        check(expression.as_ast())?;
        Ok(Self(expression))
    }

    /// What it takes to look at a message, in ns, by estimate.
    pub fn cost_ns(message: &Message) -> i64 {
        FILTER_NS + FILTER_NS_PER_BYTE * message.field(Field::Extras).map_or(0, str::len) as i64
    }

    /// Whether the expression is true of a message. One that fails for it, say for a type, is not.
    pub fn admits(&self, message: &Message) -> bool {
        let extras = message.field(Field::Extras).and_then(|text| serde_json::from_str(text).ok());
        let headers =
            extras.and_then(|mut extras: serde_json::Value| extras.get_mut("headers").map(serde_json::Value::take));
        let data = serde_json::json!({ "name": message.field(Field::Name), "headers": headers });
        let Ok(variable) = Variable::from_serializable(&data) else { return false };
        self.0.search(Arc::new(variable)).is_ok_and(|result| result.is_truthy())
    }
}

/// Refuses what multiplies its input.
fn check(ast: &Ast) -> Result<(), NoFilter> {
    match ast {
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Literal { .. } => Ok(()),
        Ast::Comparison { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => {
            check(lhs)?;
            check(rhs)
        }
        Ast::Condition { predicate, then, .. } => {
            check(predicate)?;
            check(then)
        }
        Ast::Not { node, .. } => check(node),
        Ast::Function { name, args, .. } if FUNCTIONS.contains(&&**name) => args.iter().try_for_each(check),
        Ast::Function { name, .. } => Err(NoFilter(format!("{name}() is not among {}", FUNCTIONS.join(", ")))),
        _ => Err(NoFilter("a filter has fields, comparisons, conditions and functions, and makes no lists".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::kind::Kind;
    use crate::message::{FIELDS, Form};
    use crate::partition::Partitions;

    fn message(name: Option<&str>, extras: Option<&str>) -> Message {
        let partition = Partitions::default().assign("t", [0; 16], 0, 0).unwrap();
        let mut fields = [None; FIELDS];
        fields[Field::Name as usize] = name;
        fields[Field::Extras as usize] = extras;
        Message::new(Arc::clone(&partition), (0, 0), (Kind::Message, 0), Form::None, b"", Some(&fields))
    }

    fn admits(expression: &str, name: Option<&str>, extras: Option<&str>) -> bool {
        Filter::compile(expression).unwrap().admits(&message(name, extras))
    }

    #[test]
    fn name_and_headers_can_be_asked_for() {
        let extras = r#"{"headers": {"kind": "goal", "minute": 90, "home": true}}"#;
        for (expression, expected) in [
            ("name == 'score'", true),
            ("name == 'other'", false),
            ("headers.kind == 'goal' && headers.minute > `45`", true),
            ("headers.minute < `45` || headers.home", true),
            ("!headers.home", false),
            ("headers.\"kind\"", true),
            ("headers.missing", false),
            ("starts_with(name, 'sc') && contains(headers.kind, 'oa')", true),
            ("ends_with(headers.missing, 'x')", false),
            ("length(name) > `3`", true),
            ("`true`", true),
            ("@.name == 'score'", true),
        ] {
            assert_eq!(admits(expression, Some("score"), Some(extras)), expected, "{expression}");
        }
    }

    #[test]
    fn a_message_without_them_is_asked_all_the_same() {
        assert!(admits("name == null", None, None) || admits("name == `null`", None, None));
        assert!(admits("!headers", None, Some(r#"{"ref": 1}"#)));
        assert!(!admits("headers.a == 'b'", None, Some("not JSON")));
    }

    #[test]
    fn what_is_no_filter() {
        for expression in [
            "",
            "name ==",
            "(",
            "[@,@]",
            "{a: @}",
            "headers.*",
            "a[*].b",
            "a[]",
            "a[0:2]",
            "sort(@)",
            "to_string(@)",
            "map(&a, @)",
            "a[?b]",
        ] {
            assert!(Filter::compile(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn the_bounds_are_reached() {
        let longest = format!("name == '{}'", "x".repeat(FILTER_BYTES_MAX - 10));
        assert!(Filter::compile(&longest).is_ok());
        assert!(Filter::compile(&format!("{longest} ")).is_err());
        let deepest = format!("{}name{}", "(".repeat(FILTER_NESTING_MAX), ")".repeat(FILTER_NESTING_MAX));
        assert!(Filter::compile(&deepest).is_ok());
        assert!(Filter::compile(&format!("({deepest})")).is_err());
    }

    #[test]
    fn one_expression_is_one_filter_as_long_as_somebody_uses_it() {
        let filters = Filters::default();
        let held: Vec<_> = (0..10).map(|n| filters.compile(&format!("name == '{n}'")).unwrap()).collect();
        assert!(Arc::ptr_eq(&filters.compile("name == '3'").unwrap(), &held[3]));
        assert!(filters.compile("name ==").is_err());
        for n in 0..3 * FILTERS_KEPT {
            filters.compile(&format!("name != '{n}'")).unwrap();
            assert!(filters.0.lock().by_text.len() <= FILTERS_KEPT);
        }
        assert!(Arc::ptr_eq(&filters.compile("name == '3'").unwrap(), &held[3]));
        let more: Vec<_> = (0..3 * FILTERS_KEPT).map(|n| filters.compile(&format!("name > `{n}`")).unwrap()).collect();
        assert!(Arc::ptr_eq(&filters.compile("name > `3`").unwrap(), &more[3]));
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[a-z@.'`0-9()|&!=<>\\[\\]{}*,\" -]{0,80}", extras in ".{0,40}") {
            if let Ok(filter) = Filter::compile(&text) {
                filter.admits(&message(Some("n"), Some(&extras)));
            }
        }
    }
}
