//! Element types: from a NumPy type number to a Rust type and back.

use half::{bf16, f16};
use numpy::npyffi::NPY_TYPES;
use pyo3::prelude::*;
use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// The element types that pass between NumPy and the crate without conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    I8,
    I32,
    I64,
    /// What stands for bfloat16 in files, where NumPy has no type for it.
    U16,
    Bool,
}

/// A Rust type with the memory layout of a [`Dtype`].
pub(crate) trait Native: Copy {
    const DTYPE: Dtype;
}

macro_rules! native {
    ($($rust:ty => $dtype:ident),*) => {
        $(impl Native for $rust { const DTYPE: Dtype = Dtype::$dtype; })*
    };
}
native!(f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64, i8 => I8, i32 => I32, i64 => I64, u8 => Bool);

/// Runs `$body` with `$E` standing for the Rust type of a floating [`Dtype`].
macro_rules! for_float {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            $crate::dtype::Dtype::F16 => {
                type $E = half::f16;
                $body
            }
            $crate::dtype::Dtype::Bf16 => {
                type $E = half::bf16;
                $body
            }
            $crate::dtype::Dtype::F32 => {
                type $E = f32;
                $body
            }
            $crate::dtype::Dtype::F64 => {
                type $E = f64;
                $body
            }
            other => unreachable!("{other:?} is no dtype of scores"),
        }
    };
}
pub(crate) use for_float;

/// The number under which ml_dtypes registered bfloat16 with NumPy; negative until an array of it has been seen.
static BFLOAT16: AtomicI32 = AtomicI32::new(-1);

const INT64: NPY_TYPES = if size_of::<c_long>() == 8 { NPY_TYPES::NPY_LONG } else { NPY_TYPES::NPY_LONGLONG };

impl Dtype {
    pub(crate) fn type_num(self) -> c_int {
        match self {
            Self::F16 => NPY_TYPES::NPY_HALF as c_int,
            Self::Bf16 => BFLOAT16.load(Relaxed), // an output follows an input, which was seen
            Self::F32 => NPY_TYPES::NPY_FLOAT as c_int,
            Self::F64 => NPY_TYPES::NPY_DOUBLE as c_int,
            Self::I8 => NPY_TYPES::NPY_BYTE as c_int,
            Self::U16 => NPY_TYPES::NPY_USHORT as c_int,
            Self::I32 => NPY_TYPES::NPY_INT as c_int,
            Self::I64 => INT64 as c_int,
            Self::Bool => NPY_TYPES::NPY_BOOL as c_int,
        }
    }

    /// The type with this number, as far as a number alone tells.
    pub(crate) fn from_type_num(type_num: c_int) -> Option<Self> {
        [Self::F32, Self::F64, Self::F16, Self::Bool, Self::I64, Self::I32, Self::I8, Self::U16, Self::Bf16]
            .into_iter()
            .find(|dtype| dtype.type_num() == type_num)
    }

    /// Looks whether `dtype`, with number `type_num`, is the bfloat16 of ml_dtypes, and remembers it if so.
    pub(crate) fn learn(dtype: &Bound<'_, PyAny>, type_num: c_int) -> PyResult<Option<Self>> {
        let class = dtype.getattr("type")?;
        let is_bfloat16 = class.getattr("__name__")?.eq("bfloat16")? && class.getattr("__module__")?.eq("ml_dtypes")?;
        if is_bfloat16 {
            BFLOAT16.store(type_num, Relaxed);
        }
        Ok(is_bfloat16.then_some(Self::Bf16))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 => 1,
            Self::F16 | Self::Bf16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }
}
