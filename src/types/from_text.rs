//! Options of which a text is enough.

/// Makes them from a text, with their `new`.
macro_rules! from_text {
    ($($Options:ident)*) => {$(
        impl From<&str> for $Options {
            fn from(text: &str) -> Self {
                $Options::new(text)
            }
        }

        impl From<String> for $Options {
            fn from(text: String) -> Self {
                $Options::new(text)
            }
        }

        impl From<&String> for $Options {
            fn from(text: &String) -> Self {
                $Options::new(text)
            }
        }
    )*};
}
