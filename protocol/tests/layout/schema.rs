//! Descriptions of archived types, taken from the compiler: sizes, offsets, tags.
//!
//! The macros stop the build where a field or variant is missing from a listing or has another
//! type there. Which types there are is `bodies`' business.

use rkyv::{Archive, Archived};

/// A field of a struct or of a variant.
pub struct Row {
    pub offset: usize,
    pub bytes: usize,
    pub name: &'static str,
    pub what: String,
}

/// A struct, and its frame's kind if it is a message.
pub struct Struct {
    pub name: &'static str,
    pub kind: Option<u16>,
    pub bytes: usize,
    pub rows: Vec<Row>,
}

/// An enum: a tag byte, then the variant's fields.
pub struct Enum {
    pub name: &'static str,
    pub bytes: usize,
    pub variants: Vec<(&'static str, Vec<Row>)>,
}

/// A number or bytes with a name.
pub struct Scalar {
    pub name: &'static str,
    pub bytes: usize,
    pub what: String,
}

/// A type that tables name.
pub trait Wire: Archive {
    /// What tables call it.
    fn what() -> String;
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Wire for $type {
            fn what() -> String { stringify!($type).to_owned() }
        })*
    };
}
plain!(u8, u16, u32, u64, i32, bool);

impl Wire for String {
    fn what() -> String {
        "string".to_owned()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn what() -> String {
        format!("list of {}", T::what())
    }
}

impl<T: Wire> Wire for Option<T> {
    fn what() -> String {
        format!("optional {}", T::what())
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn what() -> String {
        format!("{N} x {}", T::what())
    }
}

/// Returns the bytes of a type where it lies in another.
pub fn bytes_of<T: Archive>() -> usize {
    assert_eq!(align_of::<Archived<T>>(), 1, "nothing is padded");
    size_of::<Archived<T>>()
}

/// Returns the rows of a variant: its fields behind the tag, one after another.
pub fn behind_the_tag(fields: Vec<(&'static str, usize, String)>) -> Vec<Row> {
    let mut offset = 1;
    let place = |(name, bytes, what): (&'static str, usize, String)| {
        let row = Row { offset, bytes, name, what };
        offset += bytes;
        row
    };
    fields.into_iter().map(place).collect()
}

macro_rules! scalars {
    ($($name:ident = $type:ty),* $(,)?) => {
        $(impl Wire for $name {
            fn what() -> String { stringify!($name).to_owned() }
        })*

        pub fn scalars() -> Vec<Scalar> {
            vec![$({
                let _: fn(&$name) -> &$type = |whole| &whole.0;
                assert_eq!(bytes_of::<$name>(), bytes_of::<$type>());
                let what = <$type as Wire>::what();
                Scalar { name: stringify!($name), bytes: bytes_of::<$name>(), what }
            }),*]
        }
    };
}
pub(crate) use scalars;

macro_rules! structs {
    ($($name:ident $(= $kind:expr)?; { $($field:ident: $type:ty),* $(,)? })*) => {
        $(impl Wire for $name {
            fn what() -> String { stringify!($name).to_owned() }
        })*

        pub fn structs() -> Vec<Struct> {
            vec![$({
                let _: fn(&$name) = |whole| {
                    let $name { $($field),* } = whole;
                    $(let _: &$type = $field;)*
                };
                let rows = vec![$(Row {
                    offset: core::mem::offset_of!(Archived<$name>, $field),
                    bytes: bytes_of::<$type>(),
                    name: stringify!($field),
                    what: <$type as Wire>::what(),
                }),*];
                let kind: Option<u16> = None $(.or(Some($kind)))?;
                Struct { name: stringify!($name), kind, bytes: bytes_of::<$name>(), rows }
            }),*]
        }
    };
}
pub(crate) use structs;

macro_rules! any {
    ($type:ty) => {
        _
    };
}
pub(crate) use any;

macro_rules! enums {
    ($($name:ident {
        $($variant:ident $(($only:ty))? $({ $($field:ident: $type:ty),* $(,)? })?),* $(,)?
    })*) => {
        $(impl Wire for $name {
            fn what() -> String { stringify!($name).to_owned() }
        })*

        #[expect(clippy::redundant_pattern, reason = "the variant's type stands in its pattern")]
        pub fn enums() -> Vec<Enum> {
            vec![$({
                let _: fn(&$name) = |whole| match whole {
                    $($name::$variant $((inner @ any!($only)))? $({ $($field),* })? => {
                        $(let _: &$only = inner;)?
                        $($(let _: &$type = $field;)*)?
                    })*
                };
                let variants: Vec<(&'static str, Vec<Row>)> = vec![$((
                    stringify!($variant),
                    behind_the_tag(vec![
                        $(("", bytes_of::<$only>(), <$only as Wire>::what()),)?
                        $($((stringify!($field), bytes_of::<$type>(), <$type as Wire>::what()),)*)?
                    ]),
                )),*];
                let longest = variants.iter().map(|(_, rows)| {
                    1 + rows.iter().map(|row| row.bytes).sum::<usize>()
                });
                let bytes = bytes_of::<$name>();
                assert_eq!(longest.max(), Some(bytes), stringify!($name));
                Enum { name: stringify!($name), bytes, variants }
            }),*]
        }
    };
}
pub(crate) use enums;
