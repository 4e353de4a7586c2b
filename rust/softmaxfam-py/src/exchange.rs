//! Tensors of another library, raw: through DLPack's table of C functions, or a DLPack capsule where a release has none.
//!
//! The other library is not known here: a Python module of the package names a class of tensors with what it takes to
//! read and to make them ([`adopt`]). What reading asks for, and where it is established:
//!
//! - An object is of that class: [`look`] checks its type. The callers in Python pass no subclass that gives its elements
//!   another meaning, and no tensor whose elements are lazily negated or are not there.
//! - What a view points to lives long enough: the memory, lengths and strides belong to the tensor, to which every
//!   [`Tensor`]'s owner holds a reference, or to the capsule, which it holds itself. Attached code could give a tensor
//!   other memory meanwhile: as with NumPy's arrays, that is the caller's mistake.
//! - Elements are of the type they are read as, aligned, and in CPU memory: [`look`] accepts nothing else.
#![allow(unsafe_code, reason = "one of the files named for it: raw access to tensors")]

use crate::dtype::Dtype;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{ffi, intern};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(adopt, module)?)
}

/// DLTensor of dlpack.h: where elements are and what they are.
#[repr(C)]
#[derive(Clone, Copy)]
struct View {
    data: *mut c_void,
    device: c_int,
    device_id: c_int,
    rank: c_int,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64, // in elements
    byte_offset: u64,
}

/// DLPackExchangeAPI of dlpack.h, the parts in use by name.
#[repr(C)]
struct Exchange {
    major: u32,
    _minor: u32,
    _previous: usize, // pointers that are not used
    allocate: Option<Allocate>,
    _export: usize,
    import: Option<unsafe extern "C" fn(*mut c_void, *mut *mut ffi::PyObject) -> c_int>,
    view: Option<unsafe extern "C" fn(*mut ffi::PyObject, *mut View) -> c_int>,
}

type Allocate = unsafe extern "C" fn(*mut View, *mut *mut c_void, *mut c_void, SetError) -> c_int;
type SetError = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);

const CPU: c_int = 1; // kDLCPU
const MAJOR: u32 = 1; // of DLPack, which changes with the layout of its structs

/// The class of tensors, and how they are read and made.
struct Adopted {
    class: Py<PyType>,
    exchange: Option<&'static Exchange>,
    capsule: Py<PyAny>,
    like: Py<PyAny>,
    empty: Py<PyAny>,
}

static ADOPTED: PyOnceLock<Adopted> = PyOnceLock::new();

/// Accepts tensors of a class from now on; only the first class counts.
///
/// `exchange` is the class's DLPack exchange table or None, `capsule(tensor)` makes a DLPack capsule, `like(tensor)` a new
/// tensor of the same shape and type, and `empty(tensor, shape, dtype)` one of another shape and a type by its name.
#[pyfunction]
#[pyo3(signature = (class, exchange, capsule, like, empty, /))]
fn adopt(
    class: Bound<'_, PyType>,
    exchange: &Bound<'_, PyAny>,
    capsule: Bound<'_, PyAny>,
    like: Bound<'_, PyAny>,
    empty: Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = class.py();
    let mut found = None;
    if !exchange.is_none() {
        // SAFETY: the call checks the type and the name of the capsule; by DLPack's contract the table lives as long as the
        // process and starts with its version.
        let table = unsafe { ffi::PyCapsule_GetPointer(exchange.as_ptr(), c"dlpack_exchange_api".as_ptr()) };
        if table.is_null() {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: as above; of another major version no field but the version is read.
        let table = unsafe { &*table.cast::<Exchange>() };
        found = (table.major == MAJOR).then_some(table);
    }
    let new = Adopted {
        class: class.unbind(),
        exchange: found,
        capsule: capsule.unbind(),
        like: like.unbind(),
        empty: empty.unbind(),
    };
    let _ = ADOPTED.set(py, new);
    Ok(())
}

/// A view of a tensor, to be kept beside a reference to it.
#[derive(Clone)]
pub(crate) struct Tensor<'py> {
    view: View,
    dtype: Dtype,
    _capsule: Option<Bound<'py, PyAny>>, // owns the lengths and strides of the view, where there is one
}

/// Whether an object is of the adopted class.
fn adopted<'py>(object: &Bound<'py, PyAny>) -> Option<&'static Adopted> {
    let adopted = ADOPTED.get(object.py())?;
    // SAFETY: two live objects, the second one a type; this thread is attached.
    let is_one = unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), adopted.class.as_ptr().cast()) };
    (is_one != 0).then_some(adopted)
}

/// Views an object of the adopted class; None for any other object.
pub(crate) fn look<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Option<Tensor<'py>>> {
    let Some(adopted) = adopted(object) else { return Ok(None) };
    let py = object.py();
    let (view, capsule) = match adopted.exchange.and_then(|table| table.view) {
        Some(read) => {
            let mut view = std::mem::MaybeUninit::uninit();
            // SAFETY: the object is of the class that the function was found on; it fills the view or raises.
            if unsafe { read(object.as_ptr(), view.as_mut_ptr()) } != 0 {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: just filled.
            (unsafe { view.assume_init() }, None)
        }
        None => {
            let capsule = adopted.capsule.bind(py).call1((object,))?;
            // SAFETY: the call checks the type and the name of the capsule.
            let managed = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"dltensor".as_ptr()) };
            if managed.is_null() {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: by DLPack's contract a capsule of this name points to a DLManagedTensor, whose first field is the view.
            (unsafe { *managed.cast::<View>() }, Some(capsule))
        }
    };
    let dtype = match (view.code, view.bits, view.lanes) {
        (0, 32, 1) => Some(Dtype::I32),
        (0, 64, 1) => Some(Dtype::I64),
        (2, 16, 1) => Some(Dtype::F16),
        (2, 32, 1) => Some(Dtype::F32),
        (2, 64, 1) => Some(Dtype::F64),
        (4, 16, 1) => Some(Dtype::Bf16),
        (6, 8, 1) => Some(Dtype::Bool),
        _ => None,
    };
    let Some(dtype) = dtype else {
        let given = object.getattr(intern!(py, "dtype"))?;
        return Err(PyTypeError::new_err(format!(
            "{name} has dtype {given}, must be float16, bfloat16, float32 or float64"
        )));
    };
    if view.device != CPU {
        return Err(PyValueError::new_err(format!("{name} is on a device, must be in CPU memory")));
    }
    if view.rank > 0 && view.strides.is_null() {
        return Err(PyTypeError::new_err(format!("{name} has no strides, must be a strided tensor")));
    }
    let tensor = Tensor { view, dtype, _capsule: capsule };
    if !tensor.data().cast::<u8>().addr().is_multiple_of(dtype.size()) {
        return Err(PyValueError::new_err(format!("{name} is not aligned to its dtype; copy it first")));
    }
    Ok(Some(tensor))
}

/// The name of the adopted class, for errors.
pub(crate) fn class_name(py: Python<'_>) -> PyResult<String> {
    let Some(adopted) = ADOPTED.get(py) else { return Ok("tensor".to_owned()) };
    let class = adopted.class.bind(py);
    Ok(format!("{}.{}", class.module()?, class.qualname()?))
}

/// A new tensor with shape, type and order of axes of another one; its elements are not set.
pub(crate) fn like<'py>(model: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let adopted = adopted(model).expect("a view was made of it");
    adopted.like.bind(model.py()).call1((model,))
}

/// A new tensor beside another one, of this shape and type; its elements are not set.
pub(crate) fn empty<'py>(model: &Bound<'py, PyAny>, shape: &[isize], dtype: Dtype) -> PyResult<Bound<'py, PyAny>> {
    let (py, adopted) = (model.py(), adopted(model).expect("a view was made of it"));
    if let Some(Exchange { allocate: Some(allocate), import: Some(import), .. }) = adopted.exchange
        && shape.iter().product::<isize>() <= SMALL
    {
        return allocated(py, *allocate, *import, shape, dtype);
    }
    adopted.empty.bind(py).call1((model, PyTuple::new(py, shape)?, dtype.name()))
}

/// Elements up to which the call from Python, not the memory, is what a new tensor costs.
const SMALL: isize = 1 << 10;

/// A new tensor through the table of C functions, which takes a third of the time of a call from Python.
fn allocated<'py>(
    py: Python<'py>,
    allocate: Allocate,
    import: unsafe extern "C" fn(*mut c_void, *mut *mut ffi::PyObject) -> c_int,
    shape: &[isize],
    dtype: Dtype,
) -> PyResult<Bound<'py, PyAny>> {
    unsafe extern "C" fn set_error(_: *mut c_void, _: *const c_char, message: *const c_char) {
        // SAFETY: called by `allocate` below, on this attached thread, with a message that ends with 0.
        unsafe { ffi::PyErr_SetString(ffi::PyExc_RuntimeError, message) };
    }
    const { assert!(size_of::<isize>() == size_of::<i64>()) };
    let (code, bits) = match dtype {
        Dtype::I8 => (0, 8),
        Dtype::I32 => (0, 32),
        Dtype::I64 => (0, 64),
        Dtype::U16 => (1, 16),
        Dtype::F16 => (2, 16),
        Dtype::F32 => (2, 32),
        Dtype::F64 => (2, 64),
        Dtype::Bf16 => (4, 16),
        Dtype::Bool => (6, 8),
    };
    let mut wanted = View {
        data: ptr::null_mut(),
        device: CPU,
        device_id: 0,
        rank: shape.len() as c_int,
        code,
        bits,
        lanes: 1,
        shape: shape.as_ptr().cast(),
        strides: ptr::null(),
        byte_offset: 0,
    };
    let (mut managed, mut object) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the prototype and the places for the results live here; each call returns 0, or raises. `import` takes the
    // tensor over, and gives a new reference.
    unsafe {
        if allocate(&raw mut wanted, &raw mut managed, ptr::null_mut(), set_error) != 0
            || import(managed, &raw mut object) != 0
        {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_err(py, object)
    }
}

impl Tensor<'_> {
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn data(&self) -> *mut c_char {
        self.view.data.cast::<c_char>().wrapping_add(self.view.byte_offset as usize)
    }

    pub(crate) fn shape(&self) -> &[isize] {
        self.lengths(self.view.shape)
    }

    /// In elements.
    pub(crate) fn strides(&self) -> &[isize] {
        self.lengths(self.view.strides)
    }

    fn lengths(&self, start: *const i64) -> &[isize] {
        const { assert!(size_of::<isize>() == size_of::<i64>()) };
        match self.view.rank {
            0 => &[],
            // SAFETY: a view has `rank` lengths and strides, which live as said at the head of this file.
            rank => unsafe { std::slice::from_raw_parts(start.cast::<isize>(), rank as usize) },
        }
    }
}

/// New memory from which on huge pages pay.
const HUGE_FROM: usize = 32 << 20;

/// Advises the system to give a large new output huge pages, whose first touch costs half.
pub(crate) fn advise_huge_pages(start: *mut c_char, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes >= HUGE_FROM {
        const PAGE: usize = 4096;
        const MADV_HUGEPAGE: c_int = 14;
        unsafe extern "C" {
            fn madvise(start: *mut c_void, bytes: usize, advice: c_int) -> c_int;
        }
        let skipped = start.align_offset(PAGE);
        // SAFETY: advice changes no contents; the pages lie within the memory of a tensor that the caller has just made.
        unsafe { madvise(start.wrapping_add(skipped).cast(), (bytes - skipped) / PAGE * PAGE, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, HUGE_FROM);
}
