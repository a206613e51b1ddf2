//! Options of which a text is enough.

/// Makes them from a text, with their `new` or with this function of `&str`.
macro_rules! from_text {
    ($($Options:ident)*) => {$(
        from_text!($Options, $Options::new);
    )*};
    ($Options:ident, $new:expr) => {
        impl From<&str> for $Options {
            fn from(text: &str) -> Self {
                $new(text)
            }
        }

        impl From<String> for $Options {
            fn from(text: String) -> Self {
                $new(text.as_str())
            }
        }

        impl From<&String> for $Options {
            fn from(text: &String) -> Self {
                $new(text.as_str())
            }
        }
    };
}

pub(crate) use from_text;
