//! NumPy's memory, raw: reading array heads, viewing their elements as rows, making and checking outputs.
//!
//! The tensors of `exchange` are viewed here too, so that every function takes either; the arrays of one call are all of
//! the kind of the first one.
//!
//! PyReadonlyArray and its bookkeeping of borrows cost more than a small call may take, so the fields of the array
//! object are read directly. What that asks for, and where it is established:
//!
//! - An object is an ndarray: [`head`] checks its type.
//! - Elements are of the Rust type they are read as, in native byte order, aligned, at whole strides: [`Array::new`] and
//!   [`Array::native`] accept nothing else; the rest is converted by NumPy, by a copy.
//! - The memory lives long enough: every [`Array`] holds a reference, and NumPy refuses to resize an array that has one.
//! - Outputs alias no input, save scores with the same axes, and no element of theirs has two places: [`Output::given`].
//!
//! As with NumPy's own functions, a caller who writes to an array in one thread while another thread reads it gets
//! numbers that mean nothing.
#![allow(unsafe_code, reason = "one of the files named for it: raw access to NumPy arrays")]

use crate::dtype::{Dtype, Native};
use crate::exchange::{self, Tensor};
use crate::frame::{Along, Frame, Placement, tuple};
use crate::list::List;
use numpy::npyffi::{
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_ORDER, NpyTypes, PY_ARRAY_API, PyArray_Check,
    PyArrayObject, get_type_object,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyTuple};
use softmaxfam::{Rows, RowsMut};
use std::ffi::{c_char, c_int};
use std::ptr;

/// The head of an ndarray: where its elements are and what they are.
#[derive(Clone, Copy)]
struct Head<'a> {
    data: *mut c_char,
    shape: &'a [isize],
    strides: &'a [isize], // in bytes
    flags: c_int,
    type_num: c_int,
    swapped: bool,
}

/// Reads the head of an ndarray or of a subclass; None for any other object.
#[inline]
fn head<'a>(object: &'a Bound<'_, PyAny>) -> Option<Head<'a>> {
    // SAFETY: `object` is a live Python object, and this thread is attached.
    if unsafe { PyArray_Check(object.py(), object.as_ptr()) } == 0 {
        return None;
    }
    // SAFETY: the object is an ndarray, as just checked, and lives as long as the reference `object`.
    let fields = unsafe { &(*object.as_ptr().cast::<PyArrayObject>()).fields };
    // SAFETY: an ndarray always has a descriptor.
    let descr = unsafe { &(*fields.descr).fields };
    let list = |start: *mut isize| match fields.nd {
        0 => &[][..],
        // SAFETY: an ndarray has `nd` lengths and strides; they change only when attached code assigns to its shape.
        nd => unsafe { std::slice::from_raw_parts(start, nd as usize) },
    };
    Some(Head {
        data: fields.data,
        shape: list(fields.dimensions),
        strides: list(fields.strides),
        flags: fields.flags,
        type_num: descr.type_num,
        swapped: descr.byteorder as u8 == if cfg!(target_endian = "little") { b'>' } else { b'<' },
    })
}

/// Whether an ndarray is of that very class; a subclass may give its elements another meaning.
#[inline]
fn is_no_subclass(array: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads a pointer from NumPy's table of types, which lives as long as the process.
    array.get_type_ptr() == unsafe { get_type_object(array.py(), NpyTypes::PyArray_Type) }
}

/// Where the elements of an array lie.
#[derive(Clone, Copy)]
struct Layout<'a> {
    data: *mut c_char,
    shape: &'a [isize],
    strides: &'a [isize],
    step: isize, // what a stride counts, in bytes
}

/// An ndarray or tensor of a native type: aligned, in native byte order, at whole strides.
#[derive(Clone)]
pub(crate) struct Array<'py> {
    object: Bound<'py, PyAny>,
    dtype: Dtype,
    tensor: Option<Tensor<'py>>,
}

impl<'py> Array<'py> {
    /// Takes scores or probabilities: integers and bool are converted to float64, odd layouts to plain ones.
    pub(crate) fn new(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match Self::native(object) {
            Some(array) if array.dtype.is_float() && is_no_subclass(object) => Ok(array),
            None => match Self::of_tensor(name, object)? {
                Some(tensor) if tensor.dtype.is_float() => Ok(tensor),
                Some(tensor) => Err(wrong_dtype(name, tensor.dtype, "float16, bfloat16, float32 or float64")),
                None => Self::converted(name, object),
            },
            _ => Self::converted(name, object),
        }
    }

    /// A tensor of the adopted class, of a native type.
    fn of_tensor(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let tensor = exchange::look(name, object)?;
        Ok(tensor.map(|tensor| Self { object: object.clone(), dtype: tensor.dtype(), tensor: Some(tensor) }))
    }

    /// Another array of a call whose first one this is, if that is a tensor: then it must be one too.
    fn tensor_beside(&self, name: &str, object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if self.tensor.is_none() {
            return Ok(None);
        }
        match Self::of_tensor(name, object)? {
            Some(tensor) => Ok(Some(tensor)),
            None => {
                let (class, needed) = (object.get_type().qualname()?, exchange::class_name(self.py())?);
                Err(PyTypeError::new_err(format!("{name} is a {class}, must be a {needed} as the first argument")))
            }
        }
    }

    /// Scores or probabilities beside those of the first argument.
    pub(crate) fn beside(&self, name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if self.tensor.is_some() {
            self.tensor_beside(name, object)?;
        }
        let array = Self::new(name, object)?;
        if array.tensor.is_some() == self.tensor.is_some() {
            return Ok(array);
        }
        let given = exchange::class_name(self.py())?;
        Err(PyTypeError::new_err(format!("{name} is a {given}, must be a NumPy array as the first argument")))
    }

    /// Numbers, in float64, beside the first argument.
    pub(crate) fn numbers_beside(&self, name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match self.tensor_beside(name, object)? {
            None => Self::numbers(name, object),
            Some(tensor) if tensor.dtype == Dtype::F64 => Ok(tensor),
            Some(tensor) => Err(wrong_dtype(name, tensor.dtype, "float64")),
        }
    }

    /// A mask of bools beside the first argument.
    pub(crate) fn bools_beside(&self, name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        match self.tensor_beside(name, object)? {
            None => Self::bools(name, object),
            Some(tensor) if tensor.dtype == Dtype::Bool => Ok(tensor),
            Some(tensor) => Err(wrong_dtype(name, tensor.dtype, "bool")),
        }
    }

    /// What rows should have been, beside the first argument: ids of classes as int64 of the shape without the class axis,
    /// or with length 1 along it; or a distribution, in the dtype of the first argument or in float64.
    pub(crate) fn target_beside(&self, name: &str, object: &Bound<'py, PyAny>, frame: &Frame) -> PyResult<Self> {
        let array = match self.tensor_beside(name, object)? {
            Some(tensor) => tensor,
            None => Self::target(name, object, self.dtype)?,
        };
        let is_of_ids = array.dtype == Dtype::I64;
        if !is_of_ids && array.dtype != self.dtype && array.dtype != Dtype::F64 {
            return Err(wrong_dtype(name, array.dtype, &format!("int64, {} or float64", self.dtype.name())));
        }
        let (own, dropped) = (array.shape(), frame.shape(Along::Dropped));
        let fits = match is_of_ids {
            true => own == &*dropped || frame.place(own, own, Along::One).is_some_and(|_| own.len() > dropped.len()),
            false => own == self.shape(),
        };
        if fits {
            return Ok(array);
        }
        let (given, scores) = (tuple(own), tuple(self.shape()));
        let (kind, needed) = match is_of_ids {
            true => ("class ids", format!("{}, that of the scores without the class axis", tuple(&dropped))),
            false => ("shares", format!("{scores} as the scores")),
        };
        Err(PyValueError::new_err(format!("{name} of {kind} has shape {given}, must have shape {needed}")))
    }

    fn target(name: &str, object: &Bound<'py, PyAny>, scores: Dtype) -> PyResult<Self> {
        if let Some(array) = Self::native(object)
            && (array.dtype == Dtype::I64 || array.dtype == scores)
        {
            return Ok(array);
        }
        let array = as_ndarray(name, object)?;
        let kind: char = array.getattr("dtype")?.getattr("kind")?.extract()?;
        if "iu".contains(kind) {
            return Self::cast(name, &array, Dtype::I64);
        }
        if kind == 'b' {
            return Err(PyTypeError::new_err(format!(
                "{name} has dtype bool, must be class ids or a distribution; convert with {name}.astype(numpy.int64)"
            )));
        }
        let array = Self::new(name, &array)?;
        if array.dtype == scores { Ok(array) } else { Self::cast(name, &array.object, Dtype::F64) }
    }

    /// The array as it is, if it is of a native type.
    pub(crate) fn native(object: &Bound<'py, PyAny>) -> Option<Self> {
        let head = head(object)?;
        let dtype = Dtype::from_type_num(head.type_num)?;
        let size = dtype.size() as isize;
        let whole = |axis: (&isize, &isize)| *axis.0 <= 1 || axis.1 % size == 0;
        let plain =
            head.flags & NPY_ARRAY_ALIGNED != 0 && !head.swapped && head.shape.iter().zip(head.strides).all(whole);
        plain.then(|| Self { object: object.clone(), dtype, tensor: None })
    }

    /// This array, if it holds elements of `T`, or bfloat16 in the integers that files have it in.
    pub(crate) fn stored_as<T: Native>(self) -> Option<Self> {
        match (self.dtype, T::DTYPE) {
            (given, wanted) if given == wanted => Some(self),
            (Dtype::U16, Dtype::Bf16) => Some(Self { dtype: Dtype::Bf16, ..self }),
            _ => None,
        }
    }

    /// The rare path of [`Array::new`].
    #[cold]
    fn converted(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = as_ndarray(name, object)?;
        let dtype = array.getattr("dtype")?;
        let kind: char = dtype.getattr("kind")?.extract()?;
        let type_num = head(&array).map_or(-1, |head| head.type_num);
        let wanted = match Dtype::from_type_num(type_num) {
            Some(float) if float.is_float() => Some(float),
            _ if "iub".contains(kind) => Some(Dtype::F64),
            _ => Dtype::learn(&dtype, type_num)?,
        };
        let Some(wanted) = wanted else {
            return Err(PyTypeError::new_err(format!(
                "{name} has dtype {dtype}, must be float16, bfloat16, float32, float64, an integer or bool; \
                 convert with {name}.astype(numpy.float64)"
            )));
        };
        match Self::native(&array) {
            Some(array) if array.dtype == wanted => Ok(array),
            _ => Self::cast(name, &array, wanted),
        }
    }

    /// A copy of this type with a plain layout.
    fn cast(name: &str, array: &Bound<'py, PyAny>, wanted: Dtype) -> PyResult<Self> {
        let copy = match wanted {
            Dtype::Bf16 => array.call_method1("astype", (array.getattr("dtype")?,))?,
            _ => array.call_method1("astype", (wanted.name(),))?,
        };
        Self::native(&copy)
            .ok_or_else(|| PyTypeError::new_err(format!("{name} could not be converted to {}", wanted.name())))
    }

    /// Takes numbers that are read as float64, such as one temperature for each row.
    pub(crate) fn numbers(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = Self::new(name, &as_ndarray(name, object)?)?;
        if array.dtype == Dtype::F64 { Ok(array) } else { Self::cast(name, &array.object, Dtype::F64) }
    }

    /// The elements in place, if they are of this type and follow each other.
    pub(crate) fn slice<T: Native>(&self) -> Option<&[T]> {
        let head = head(&self.object)?; // of an ndarray
        let count = head.shape.iter().product::<isize>() as usize;
        let is_plain = self.dtype == T::DTYPE && head.flags & NPY_ARRAY_C_CONTIGUOUS != 0;
        if count == 0 {
            return is_plain.then_some(&[]);
        }
        // SAFETY: `Array` promises elements of `T` that are aligned; in C order they follow each other, `count` of them; the
        // memory lives as long as `self`. Who else may write there: see the head of this file.
        is_plain.then(|| unsafe { std::slice::from_raw_parts(head.data.cast::<T>(), count) })
    }

    /// Takes a mask of bools.
    pub(crate) fn bools(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = as_ndarray(name, object)?;
        match Self::native(&array) {
            Some(array) if array.dtype == Dtype::Bool => Ok(array),
            _ => Err(PyTypeError::new_err(format!(
                "{name} has dtype {}, must be bool; compare to get a mask, such as {name} != 0",
                array.getattr("dtype")?
            ))),
        }
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.object.py()
    }

    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(crate) fn shape(&self) -> &[isize] {
        self.layout().shape
    }

    #[inline]
    fn layout(&self) -> Layout<'_> {
        if let Some(tensor) = &self.tensor {
            let step = self.dtype.size() as isize;
            return Layout { data: tensor.data(), shape: tensor.shape(), strides: tensor.strides(), step };
        }
        let head = head(&self.object).expect("an Array holds an ndarray or a tensor");
        Layout { data: head.data, shape: head.shape, strides: head.strides, step: 1 }
    }

    fn place(&self, name: &str, frame: &Frame, along: Along) -> PyResult<Placement> {
        let head = self.layout();
        let size = self.dtype.size() as isize / head.step;
        let strides: List<isize> = head.strides.iter().map(|stride| stride / size).collect();
        frame.place(head.shape, &strides, along).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{name} has shape {}, must broadcast to {}; reshape it first",
                tuple(head.shape),
                tuple(&frame.shape(along))
            ))
        })
    }

    /// The elements as rows of classes, broadcast to the frame.
    pub(crate) fn view<T: Native>(self, name: &str, frame: &Frame, along: Along) -> PyResult<View<'py, T>> {
        assert_eq!(self.dtype, T::DTYPE);
        let Placement { batch, classes } = self.place(name, frame, along)?;
        // SAFETY: `Array` promises elements of `T` that are aligned and at whole strides; NumPy that they are inside its
        // memory, which the reference in the view keeps alive. Who else may write there: see the head of this file.
        let rows = unsafe { Rows::from_raw(self.layout().data.cast::<T>(), &batch, &classes) };
        Ok(View { rows, array: self })
    }
}

/// Any object that is or becomes an ndarray: arrays, NumPy scalars, numbers, lists and tuples of numbers.
fn as_ndarray<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    if head(object).is_some() {
        if object.is_instance(&numpy.getattr("ma")?.getattr("MaskedArray")?)? {
            return Err(PyTypeError::new_err(format!(
                "{name} is a numpy.ma.MaskedArray, must be a plain array; pass {name}.data and where=~{name}.mask"
            )));
        }
        return Ok(object.clone());
    }
    let numbers = object.is_instance_of::<PyFloat>()
        || object.is_instance_of::<PyInt>()
        || object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyTuple>()
        || object.is_instance(&numpy.getattr("generic")?)?;
    if numbers {
        return numpy.call_method1("asarray", (object,));
    }
    let class = object.get_type();
    Err(PyTypeError::new_err(format!(
        "{name} is a {}.{}, must be a NumPy array or numbers; convert with numpy.asarray({name})",
        class.module()?,
        class.qualname()?
    )))
}

/// The elements of an array, as the crate reads them; the array stays alive with the view.
pub(crate) struct View<'py, T> {
    rows: Rows<'py, T>,
    array: Array<'py>,
}

impl<'py, T> View<'py, T> {
    pub(crate) fn rows(&self) -> &Rows<'_, T> {
        &self.rows
    }

    pub(crate) fn array(&self) -> &Array<'py> {
        &self.array
    }
}

/// An array to write: new, or the caller's.
pub(crate) struct Output<'py> {
    array: Array<'py>,
    is_new: bool,
}

impl<'py> Output<'py> {
    /// A new array in C order; its elements are not set.
    pub(crate) fn new(py: Python<'py>, dtype: Dtype, shape: &[isize]) -> PyResult<Self> {
        // SAFETY: the number names a type that NumPy knows: its own, or one seen on an input. The call takes over the
        // reference to the descriptor, copies the shape, allocates, and returns NULL with an exception if it cannot.
        let object = unsafe {
            let class = get_type_object(py, NpyTypes::PyArray_Type);
            let descr = PY_ARRAY_API.PyArray_DescrFromType(py, dtype.type_num());
            let (count, lengths) = (shape.len() as c_int, shape.as_ptr().cast_mut());
            let (none, own) = (ptr::null_mut(), ptr::null_mut());
            let array =
                PY_ARRAY_API.PyArray_NewFromDescr(py, class, descr, count, lengths, none, own, 0, ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, array)?
        };
        Ok(Self { array: Array { object, dtype, tensor: None }, is_new: true })
    }

    /// A new array in C order, of the library of `model`; its elements are not set.
    pub(crate) fn beside(model: &Array<'py>, dtype: Dtype, shape: &[isize]) -> PyResult<Self> {
        match model.tensor {
            None => Self::new(model.py(), dtype, shape),
            Some(_) => Self::of_tensor(&exchange::empty(&model.object, shape, dtype)?, dtype, shape),
        }
    }

    fn of_tensor(object: &Bound<'py, PyAny>, dtype: Dtype, shape: &[isize]) -> PyResult<Self> {
        let array = Array::of_tensor("out", object)?;
        let array = array.filter(|array| array.dtype == dtype && array.shape() == shape).ok_or_else(|| {
            PyTypeError::new_err(format!("a new tensor of {} and shape {} was not made", dtype.name(), tuple(shape)))
        })?;
        let bytes = shape.iter().product::<isize>() as usize * dtype.size();
        exchange::advise_huge_pages(array.layout().data, bytes);
        Ok(Self { array, is_new: true })
    }

    /// A new array with the shape, type and order of axes in memory of `model`; its elements are not set.
    pub(crate) fn like(model: &Array<'py>) -> PyResult<Self> {
        if model.tensor.is_some() {
            return Self::of_tensor(&exchange::like(&model.object)?, model.dtype, model.shape());
        }
        if head(&model.object).is_some_and(|head| head.flags & NPY_ARRAY_C_CONTIGUOUS != 0) {
            return Self::new(model.py(), model.dtype, model.shape());
        }
        let py = model.py();
        // SAFETY: `model` is an ndarray; NULL asks for its type, 0 for no subclass; NULL is returned with an exception.
        let object = unsafe {
            let (model, order) = (model.object.as_ptr().cast(), NPY_ORDER::NPY_KEEPORDER);
            Bound::from_owned_ptr_or_err(py, PY_ARRAY_API.PyArray_NewLikeArray(py, model, order, ptr::null_mut(), 0))?
        };
        Ok(Self { array: Array { object, dtype: model.dtype, tensor: None }, is_new: true })
    }

    /// The caller's `out`, if it has this type and shape, may be written, has one place for each element, and shares no
    /// memory with an input; it may be `scores` itself, element by element.
    pub(crate) fn given(
        out: &Bound<'py, PyAny>,
        dtype: Dtype,
        shape: &[isize],
        scores: &Array<'py>,
        others: &[Option<&Array<'py>>],
    ) -> PyResult<Self> {
        let output = match scores.tensor_beside("out", out)? {
            None => Self::checked("out", out, dtype, shape)?,
            Some(tensor) => Self::checked_tensor(tensor, dtype, shape)?,
        };
        let is_scores = is_same_view(&output.array.layout(), &scores.layout());
        let inputs = others.iter().flatten().copied().chain((!is_scores).then_some(scores));
        for input in inputs {
            if may_share_memory(input, &output.array)? {
                return Err(PyValueError::new_err(
                    "out shares memory with an input, must be separate from all inputs, or be the scores themselves",
                ));
            }
        }
        Ok(output)
    }

    /// The caller's array to write, which shares no memory with `others`.
    pub(crate) fn separate(
        name: &str,
        out: &Bound<'py, PyAny>,
        dtype: Dtype,
        shape: &[isize],
        others: &[Option<&Bound<'py, PyAny>>],
    ) -> PyResult<Self> {
        let output = Self::checked(name, out, dtype, shape)?;
        for other in others.iter().flatten() {
            if shares_memory(other, out)? {
                return Err(PyValueError::new_err(format!(
                    "{name} shares memory with another argument, must be separate from all of them"
                )));
            }
        }
        Ok(output)
    }

    fn checked(name: &str, out: &Bound<'py, PyAny>, dtype: Dtype, shape: &[isize]) -> PyResult<Self> {
        let refuse = |given: &str, needed: &str| Err(PyValueError::new_err(format!("{name} {given}, must {needed}")));
        let Some(head) = head(out) else {
            let message = format!("{name} is a {}, must be a NumPy array", out.get_type().qualname()?);
            return Err(PyTypeError::new_err(message));
        };
        if head.shape != shape {
            return refuse(&format!("has shape {}", tuple(head.shape)), &format!("have shape {}", tuple(shape)));
        }
        let array = match Array::native(out) {
            Some(array) if array.dtype == dtype => array,
            _ => {
                let given = format!("has dtype {:?}", out.getattr("dtype")?.str()?.to_string());
                return refuse(&given, &format!("have dtype '{}', aligned and in native byte order", dtype.name()));
            }
        };
        if head.flags & NPY_ARRAY_WRITEABLE == 0 {
            return refuse("is read-only", "be writeable");
        }
        if !has_one_place_for_each(&array.layout()) {
            return refuse("has several elements in one place", "have a place for each; np.copy makes such an array");
        }
        Ok(Self { array, is_new: false })
    }

    fn checked_tensor(array: Array<'py>, dtype: Dtype, shape: &[isize]) -> PyResult<Self> {
        let layout = array.layout();
        if layout.shape != shape {
            let (given, needed) = (tuple(layout.shape), tuple(shape));
            return Err(PyValueError::new_err(format!("out has shape {given}, must have shape {needed}")));
        }
        if array.dtype != dtype {
            let (given, needed) = (array.dtype.name(), dtype.name());
            return Err(PyValueError::new_err(format!("out has dtype {given}, must have dtype {needed}")));
        }
        if !has_one_place_for_each(&layout) {
            return Err(PyValueError::new_err(
                "out has several elements in one place, must have a place for each; clone() makes such a tensor",
            ));
        }
        Ok(Self { array, is_new: false })
    }

    /// The elements as rows of classes to write.
    pub(crate) fn rows_mut<T: Native>(&mut self, frame: &Frame, along: Along) -> PyResult<RowsMut<'_, T>> {
        assert_eq!(self.array.dtype, T::DTYPE);
        let Placement { batch, classes } = self.array.place("out", frame, along)?;
        // SAFETY: as in `Array::view`; a new array is written by nobody else and has a place for each element, one that
        // was given passed `Output::given`, and `&mut self` admits one view at a time.
        Ok(unsafe { RowsMut::from_raw(self.array.layout().data.cast::<T>(), &batch, &classes) })
    }

    /// Copies `values` in, which are as many as the elements.
    pub(crate) fn fill<T: Native>(self, values: &[T]) -> Self {
        assert_eq!(self.array.dtype, T::DTYPE);
        let head = self.array.layout();
        assert!(self.is_new && head.shape.iter().product::<isize>() == values.len() as isize);
        // SAFETY: a new array is in C order, of `T`, of as many elements as `values`, and seen by nobody else.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), head.data.cast::<T>(), values.len()) };
        self
    }

    /// What the caller gets: the array, or as NumPy's own functions return it, a scalar if it is new and 0-d.
    pub(crate) fn into_object(self) -> PyResult<Bound<'py, PyAny>> {
        let object = self.array.object;
        if !self.is_new || self.array.tensor.is_some() {
            return Ok(object);
        }
        let py = object.py();
        // SAFETY: the object is an ndarray, whose reference the call takes over for the one that it returns.
        unsafe { Bound::from_owned_ptr_or_err(py, PY_ARRAY_API.PyArray_Return(py, object.into_ptr().cast())) }
    }
}

fn wrong_dtype(name: &str, given: Dtype, accepted: &str) -> PyErr {
    PyTypeError::new_err(format!("{name} has dtype {}, must be {accepted}; convert it first", given.name()))
}

/// Whether each stride passes the span of the smaller ones, so that no two elements can meet.
fn has_one_place_for_each(layout: &Layout<'_>) -> bool {
    if layout.shape.contains(&0) {
        return true;
    }
    let mut axes: Vec<_> = layout.shape.iter().zip(layout.strides).filter(|axis| *axis.0 > 1).collect();
    axes.sort_by_key(|axis| axis.1.unsigned_abs());
    let mut span = 0;
    axes.into_iter().all(|(&length, stride)| {
        let apart = stride.unsigned_abs() > span;
        span += (length as usize - 1) * stride.unsigned_abs();
        apart
    })
}

fn is_same_view(one: &Layout<'_>, other: &Layout<'_>) -> bool {
    let strides = |layout: &Layout<'_>| {
        let axes = layout.shape.iter().zip(layout.strides).filter(|axis| *axis.0 > 1);
        axes.map(|axis| *axis.1 * layout.step).collect::<List<_>>()
    };
    one.data == other.data && one.shape == other.shape && *strides(one) == *strides(other)
}

/// First and last byte but one of what a layout spans.
fn span(layout: &Layout<'_>, size: usize) -> (isize, isize) {
    let mut span = (layout.data.addr() as isize, layout.data.addr() as isize + size as isize);
    for (&length, &stride) in layout.shape.iter().zip(layout.strides) {
        let end = (length - 1) * stride * layout.step;
        span = (span.0 + end.min(0), span.1 + end.max(0));
    }
    span
}

/// Whether two arrays share an element, or it would take long to tell.
fn may_share_memory(one: &Array<'_>, other: &Array<'_>) -> PyResult<bool> {
    let (first, second) = (one.layout(), other.layout());
    if first.shape.contains(&0) || second.shape.contains(&0) {
        return Ok(false);
    }
    let (a, b) = (span(&first, one.dtype.size()), span(&second, other.dtype.size()));
    if a.1 <= b.0 || b.1 <= a.0 {
        return Ok(false);
    }
    shares_memory(&as_bytes(one)?, &as_bytes(other)?)
}

/// An ndarray over the same places, of elements without a meaning: NumPy does not know bfloat16.
fn as_bytes<'py>(array: &Array<'py>) -> PyResult<Bound<'py, PyAny>> {
    if array.tensor.is_none() {
        return Ok(array.object.clone());
    }
    let (py, layout) = (array.py(), array.layout());
    let interface = PyDict::new(py);
    interface.set_item("version", 3)?;
    interface.set_item("data", (layout.data.addr(), false))?;
    interface.set_item("typestr", format!("|V{}", array.dtype.size()))?;
    interface.set_item("shape", PyTuple::new(py, layout.shape)?)?;
    let strides = layout.strides.iter().map(|stride| stride * layout.step);
    interface.set_item("strides", PyTuple::new(py, strides.collect::<Vec<_>>())?)?;
    let owner = py.import("types")?.getattr("SimpleNamespace")?.call0()?;
    owner.setattr("__array_interface__", interface)?;
    py.import(intern!(py, "numpy"))?.call_method1("asarray", (owner,))
}

/// Whether two ndarrays share an element, or it would take long to tell.
fn shares_memory(one: &Bound<'_, PyAny>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = one.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    let limit = PyDict::new(py);
    limit.set_item("max_work", 100_000)?; // candidate solutions: under a millisecond
    let exact = numpy.call_method("shares_memory", (one, other), Some(&limit));
    Ok(exact.and_then(|shared| shared.extract()).unwrap_or(true))
}
