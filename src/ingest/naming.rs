//! Names of series: templates over the topic and the field, parsed once, rendered for every series that is new.
//!
//! Pure. A template is text with `{topic}` (the whole topic), `{topic.N}` (its level N, from 0) and `{field}` (the
//! flattened field, empty for payloads without fields). When the template ends with `{field}`, the field is empty and a
//! `/` comes before it, that one slash is cut off: `{topic}/{field}` names a bare number by its topic.

/// Longest series name or label value. Names are stored once in the database and travel in every block; 256 bytes hold
/// eight levels of 31 characters.
pub const NAME_BYTES_MAX: usize = 256;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Level(usize),
    Field,
}

/// Why a template cannot be parsed. Positions are bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing in it.
    #[error("the template is empty")]
    Empty,
    /// A `{` without its `}`.
    #[error("`{{` at character {at} has no `}}`")]
    Unclosed {
        /// Byte position of the brace.
        at: usize,
    },
    /// A `}` without its `{`.
    #[error("`}}` at character {at} has no `{{`")]
    Unopened {
        /// Byte position of the brace.
        at: usize,
    },
    /// Something else than the three placeholders.
    #[error("`{{{name}}}` at character {at} is not one of `{{topic}}`, `{{topic.N}}`, `{{field}}`")]
    Unknown {
        /// Byte position of the brace.
        at: usize,
        /// What stands between the braces.
        name: String,
    },
    /// `{topic.N}` whose N is not a number.
    #[error("`{{topic.{level}}}` at character {at} needs a level number, as in `{{topic.0}}`")]
    Level {
        /// Byte position of the brace.
        at: usize,
        /// What stands for the number.
        level: String,
    },
    /// `{field}` in a label, which is the same for all fields of a topic.
    #[error("`{{field}}` cannot be used in a label")]
    FieldInLabel,
}

/// Why a series has no valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The topic has fewer levels than the template asks for.
    #[error("the topic has no level {level}")]
    NoLevel {
        /// Which one.
        level: usize,
    },
    /// Nothing left.
    #[error("the name is empty")]
    Empty,
    /// Too long.
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A control character.
    #[error("the name contains a control character")]
    Control,
}

// === impl Template ===

impl Template {
    /// Parses a template of a series' name.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            if end > 0 {
                parts.push(Part::Text(rest[..end].to_owned()));
                at += end;
                continue;
            }
            if rest.starts_with('}') {
                return Err(TemplateError::Unopened { at });
            }
            let length = rest.find('}').ok_or(TemplateError::Unclosed { at })?;
            parts.push(placeholder(&rest[1..length], at)?);
            at += length + 1;
        }
        Ok(Template { parts })
    }

    /// Parses a template of a label's value: the same, without `{field}`.
    pub fn parse_label(text: &str) -> Result<Template, TemplateError> {
        let template = Template::parse(text)?;
        if template.parts.contains(&Part::Field) {
            return Err(TemplateError::FieldInLabel);
        }
        Ok(template)
    }

    /// Writes the name of the series of `field` under `topic` into `name`, in place of what it held.
    pub fn render(&self, topic: &str, field: &str, name: &mut String) -> Result<(), NameError> {
        name.clear();
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text,
                Part::Topic => topic,
                Part::Level(level) => {
                    topic.split('/').nth(*level).ok_or(NameError::NoLevel { level: *level })?
                }
                Part::Field => field,
            };
            // One byte more is let through here: it may be the slash that is cut off below.
            if name.len() + text.len() > NAME_BYTES_MAX + 1 {
                return Err(NameError::TooLong);
            }
            name.push_str(text);
        }
        if field.is_empty() && self.parts.last() == Some(&Part::Field) && name.ends_with('/') {
            name.pop();
        }
        check(name)
    }
}

fn placeholder(name: &str, at: usize) -> Result<Part, TemplateError> {
    match name {
        "topic" => Ok(Part::Topic),
        "field" => Ok(Part::Field),
        _ => match name.strip_prefix("topic.") {
            Some(level) if level.bytes().all(|b| b.is_ascii_digit()) => level
                .parse()
                .map(Part::Level)
                .map_err(|_| TemplateError::Level { at, level: level.to_owned() }),
            Some(level) => Err(TemplateError::Level { at, level: level.to_owned() }),
            None => Err(TemplateError::Unknown { at, name: name.to_owned() }),
        },
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() > NAME_BYTES_MAX {
        Err(NameError::TooLong)
    } else if name.chars().any(char::is_control) {
        Err(NameError::Control)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(template: &str, topic: &str, field: &str) -> Result<String, NameError> {
        let mut name = "left over".to_owned();
        Template::parse(template).expect("valid template").render(topic, field, &mut name)?;
        Ok(name)
    }

    #[test]
    fn placeholders_are_replaced() {
        // Goal: each placeholder, alone and beside text.
        assert_eq!(rendered("{topic}/{field}", "plant/press", "motor.rpm").unwrap(), "plant/press/motor.rpm");
        assert_eq!(rendered("{topic.1}:{field}", "plant/press", "rpm").unwrap(), "press:rpm");
        assert_eq!(rendered("m-{topic.0}", "plant/press", "rpm").unwrap(), "m-plant");
        assert_eq!(rendered("fixed", "plant/press", "rpm").unwrap(), "fixed");
        assert_eq!(rendered("{topic.1}x", "a//b", "").unwrap(), "x");
    }

    #[test]
    fn only_the_slash_before_an_absent_field_is_cut_off() {
        // Goal: a bare number is named by its topic; slashes that belong to the topic stay.
        assert_eq!(rendered("{topic}/{field}", "a/b", "").unwrap(), "a/b");
        assert_eq!(rendered("{topic}/{field}", "a/b/", "").unwrap(), "a/b/");
        assert_eq!(rendered("{topic}", "a/b/", "").unwrap(), "a/b/");
        assert_eq!(rendered("{topic}/{field}", "a", "x/").unwrap(), "a/x/");
    }

    #[test]
    fn a_bad_template_is_refused_with_the_place() {
        // Goal: every error names the character.
        let error = |text| Template::parse(text).expect_err("invalid template");
        assert_eq!(error(""), TemplateError::Empty);
        assert_eq!(error("a{topic"), TemplateError::Unclosed { at: 1 });
        assert_eq!(error("ab}"), TemplateError::Unopened { at: 2 });
        assert_eq!(error("ä{fild}"), TemplateError::Unknown { at: 2, name: "fild".into() });
        assert_eq!(error("{topic.x}"), TemplateError::Level { at: 0, level: "x".into() });
        assert_eq!(error("{topic.}"), TemplateError::Level { at: 0, level: String::new() });
        assert_eq!(Template::parse_label("{field}"), Err(TemplateError::FieldInLabel));
        assert_eq!(
            error("{x}").to_string(),
            "`{x}` at character 0 is not one of `{topic}`, `{topic.N}`, `{field}`"
        );
    }

    #[test]
    fn a_name_that_cannot_be_stored_is_refused() {
        // Goal: length, emptiness, control characters, missing levels.
        assert_eq!(rendered("{topic.4}", "a/b", ""), Err(NameError::NoLevel { level: 4 }));
        assert_eq!(rendered("{field}", "a", ""), Err(NameError::Empty));
        assert_eq!(rendered("{topic}", "a\nb", ""), Err(NameError::Control));
        assert_eq!(rendered("{topic}", &"x".repeat(257), ""), Err(NameError::TooLong));
        assert_eq!(rendered("{topic}", &"x".repeat(256), "").unwrap().len(), 256);
        assert_eq!(rendered("{topic}/{field}", &"x".repeat(256), "").unwrap().len(), 256);
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_always_a_valid_name(template in "[a-z{}.0-9/]{1,30}", topic in ".{1,40}", field in ".{0,20}") {
            // Goal: whatever the template, a name is either refused or within bounds.
            if let Ok(template) = Template::parse(&template) {
                let mut name = String::new();
                if template.render(&topic, &field, &mut name).is_ok() {
                    prop_assert!(check(&name).is_ok());
                }
            }
        }
    }
}
