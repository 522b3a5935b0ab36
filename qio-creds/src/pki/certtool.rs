//! Templates as certtool takes them (`--template FILE`).
//!
//! One option a line: `name = value`, `name: value` or `name value`; a value may stand in quotes, with `\` before a
//! quote or a backslash in it. Lines that begin with `#` are comments. Names are in lower case.
//!
//! Two places differ from certtool on purpose. An option that is not known, or that cannot be honoured, is an error;
//! certtool skips it with a warning. And a flag takes no value: certtool reads `ca = no` as `ca`.

mod options;

use std::fmt;

use rcgen::CertificateParams;

use super::validity::Validity;

/// What is wrong with one line of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The option's name.
    pub option: String,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.option, self.what)
    }
}

/// Problems, one a line.
pub(super) struct Lines<'a>(pub(super) &'a [TemplateProblem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// What a template says.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    /// Everything but when it is valid; a serial number only if the template has one.
    pub(super) params: CertificateParams,
    /// None if the template leaves it open.
    pub(super) validity: Option<Validity>,
}

/// Reads a template; reports all that is wrong with it at once.
pub(super) fn parse(text: &str) -> Result<Contents, Vec<TemplateProblem>> {
    let mut options = options::Options::default();
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let end = text
            .find(|c: char| c.is_whitespace() || c == '=' || c == ':')
            .unwrap_or(text.len());
        let (option, rest) = text.split_at(end);
        if let Err(what) = value(rest).and_then(|value| options.take(option, value.as_deref())) {
            problems.push(TemplateProblem {
                line,
                option: option.to_owned(),
                what,
            });
        }
    }
    if problems.is_empty() {
        Ok(options.finish())
    } else {
        Err(problems)
    }
}

/// What follows an option's name: nothing, or a value, with or without a separator before it.
fn value(rest: &str) -> Result<Option<String>, String> {
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Ok((!rest.is_empty()).then(|| rest.to_owned()));
    };
    let mut value = String::new();
    let mut characters = rest.chars();
    characters.next();
    while let Some(c) = characters.next() {
        match c {
            '\\' => value.extend(characters.next()),
            c if c == quote => {
                let behind = characters.as_str().trim();
                return if behind.is_empty() {
                    Ok(Some(value))
                } else {
                    Err(format!("'{behind}' stands behind the closing quote; remove it"))
                };
            }
            c => value.push(c),
        }
    }
    Err(format!("the closing {quote} is missing"))
}

#[cfg(test)]
mod tests;
