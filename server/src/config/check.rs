//! What values a setting takes, and what is said of a value that it does not take.

use core::net::SocketAddr;

use protocol::asset::is_media;
use toml::Value;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Text of at most so many characters, on one line.
    Text {
        /// Most characters.
        chars_max: usize,
    },
    /// Media types and families of them, with commas between, in text of at most so many characters.
    Media {
        /// Most characters.
        chars_max: usize,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Whole {
        /// The smallest allowed.
        min: i64,
        /// The largest allowed.
        max: i64,
    },
    /// An odd whole number.
    Odd {
        /// The smallest allowed.
        min: i64,
        /// The largest allowed.
        max: i64,
    },
    /// A number.
    Real {
        /// The smallest allowed.
        min: f64,
        /// The largest allowed.
        max: f64,
    },
    /// `true` or `false`.
    Flag,
    /// An address and a port.
    Address,
}

impl Kind {
    /// Returns `value` in the form that the configuration keeps, or what is wrong with it.
    pub(super) fn check(self, value: Value) -> Result<Value, String> {
        let wrong = |expected: &str| format!("is {value}, must be {expected}");
        match (self, &value) {
            (Self::Text { chars_max }, Value::String(text)) => {
                if text.chars().any(char::is_control) {
                    return Err("contains a control character".to_owned());
                }
                let chars = text.chars().count();
                if chars_max < chars {
                    return Err(format!("is {chars} characters long, at most {chars_max}"));
                }
                Ok(value)
            }
            (Self::Media { chars_max }, Value::String(text)) => {
                let is_known = |media: &str| match media.strip_suffix("/*") {
                    Some(family) => is_media(&format!("{family}/x")),
                    None => is_media(media),
                };
                if let Some(wrong) = media_types(text).find(|media| !is_known(media)) {
                    return Err(format!(
                        "names `{wrong}`, which is no media type such as `image/png` and no family \
                         of them such as `image/*`"
                    ));
                }
                Self::Text { chars_max }.check(value)
            }
            (Self::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => {
                Ok(value)
            }
            (Self::Whole { min, max }, Value::Integer(n)) if (min..=max).contains(n) => Ok(value),
            (Self::Odd { min, max }, Value::Integer(n))
                if (min..=max).contains(n) && n % 2 == 1 =>
            {
                Ok(value)
            }
            (Self::Real { min, max }, Value::Float(n)) if (min..=max).contains(n) => Ok(value),
            (Self::Real { .. }, Value::Integer(n)) => {
                // Settings stay far below 2^53, where every whole number is exact.
                let number = i32::try_from(*n).map_err(|_| wrong(&self.expected()))?;
                self.check(Value::Float(f64::from(number)))
            }
            (Self::Flag, Value::Boolean(_)) => Ok(value),
            (Self::Address, Value::String(text)) if text.parse::<SocketAddr>().is_ok() => Ok(value),
            _ => Err(wrong(&self.expected())),
        }
    }

    /// Returns the value that a bare text, as in an environment variable, stands for.
    pub(super) fn read(self, text: &str) -> Value {
        let text = text.trim();
        match self {
            Self::Text { .. } | Self::Media { .. } | Self::Choice(_) | Self::Address => {
                // Quotes are allowed, as in the file, but not needed.
                let quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
                let parsed = quoted.then(|| text.parse::<Value>().ok()).flatten();
                parsed.unwrap_or_else(|| Value::String(text.to_owned()))
            }
            Self::Whole { .. } | Self::Odd { .. } | Self::Real { .. } | Self::Flag => {
                text.parse().unwrap_or_else(|_| Value::String(text.to_owned()))
            }
        }
    }

    /// Returns the values at both ends of what is allowed.
    #[cfg(test)]
    pub(super) fn extremes(self) -> Vec<Value> {
        match self {
            Self::Text { chars_max } => vec![Value::String("x".repeat(chars_max))],
            Self::Media { .. } => vec![Value::String("image/*, text/plain".to_owned())],
            Self::Choice(words) => words.iter().map(|&w| Value::String(w.to_owned())).collect(),
            Self::Whole { min, max } | Self::Odd { min, max } => {
                vec![Value::Integer(min), Value::Integer(max)]
            }
            Self::Real { min, max } => vec![Value::Float(min), Value::Float(max)],
            Self::Flag => vec![Value::Boolean(true), Value::Boolean(false)],
            Self::Address => vec![Value::String("[::]:0".to_owned())],
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Text { .. } => "text in quotes".to_owned(),
            Self::Media { .. } => {
                "media types in quotes such as \"image/*, text/plain\"".to_owned()
            }
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Odd { min, max } => format!("an odd number from {min} to {max}"),
            Self::Real { min, max } => format!("a number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Address => {
                "an address and a port such as \"127.0.0.1:4433\" or \"[::]:4433\"".to_owned()
            }
        }
    }
}

/// Returns the media types in a setting of them.
pub fn media_types(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|media| !media.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: Kind, text: &str) -> String {
        kind.check(kind.read(text)).unwrap_err()
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_is_right() {
        let whole = Kind::Whole { min: 1, max: 9 };
        assert_eq!(refused(whole, "0"), "is 0, must be a whole number from 1 to 9");
        assert_eq!(refused(whole, "ten"), "is \"ten\", must be a whole number from 1 to 9");
        assert_eq!(refused(whole, "1.5"), "is 1.5, must be a whole number from 1 to 9");
        let odd = Kind::Odd { min: 1, max: 9 };
        assert_eq!(refused(odd, "4"), "is 4, must be an odd number from 1 to 9");
        assert_eq!(refused(Kind::Flag, "yes"), "is \"yes\", must be true or false");
        assert_eq!(
            refused(Kind::Address, "localhost"),
            "is \"localhost\", must be an address and a port such as \"127.0.0.1:4433\" or \"[::]:4433\"",
        );
        assert_eq!(
            refused(Kind::Choice(&["a", "b"]), "c"),
            "is \"c\", must be one of \"a\", \"b\""
        );
        assert_eq!(refused(Kind::Text { chars_max: 2 }, "abc"), "is 3 characters long, at most 2");
        let real = Kind::Real { min: 0.5, max: 2.0 };
        assert_eq!(refused(real, "3"), "is 3.0, must be a number from 0.5 to 2");
        assert_eq!(refused(real, "nan"), "is nan, must be a number from 0.5 to 2");
    }

    #[test]
    fn media_types_are_types_or_families() {
        let media = Kind::Media { chars_max: 40 };
        for good in ["", "image/*, model/gltf-binary", " text/plain ,"] {
            assert!(media.check(media.read(good)).is_ok(), "{good}");
        }
        let why =
            "which is no media type such as `image/png` and no family of them such as `image/*`";
        for bad in ["image", "png", "*/*", "image/*.png", "/*"] {
            assert_eq!(
                refused(media, &format!("text/plain, {bad}")),
                format!("names `{bad}`, {why}")
            );
        }
        assert_eq!(refused(media, "7"), format!("names `7`, {why}"),);
        let long = ["text/plain"; 5].join(",");
        assert_eq!(refused(media, &long), "is 54 characters long, at most 40");
    }

    #[test]
    fn bounds_belong_to_the_range_and_whole_numbers_are_numbers() {
        let whole = Kind::Whole { min: 1, max: 9 };
        assert_eq!(whole.check(whole.read("9")), Ok(Value::Integer(9)));
        let real = Kind::Real { min: 0.5, max: 2.0 };
        assert_eq!(real.check(real.read("2")), Ok(Value::Float(2.0)));
    }
}
