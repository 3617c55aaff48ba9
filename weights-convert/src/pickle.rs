//! Python's pickle format as torch uses it (protocols 0 to 5), read into a tree of values; nothing is ever called.
//!
//! A pickle is a program for a stack machine. Its opcodes that build lists, dicts and tuples are followed; "call this
//! function" is understood for the few functions that make tensors and dicts, kept as an opaque value for classes that
//! training frameworks leave in their checkpoints, and an error for everything else.
use std::collections::HashMap;

use crate::number::Dtype;

/// Index of a value in its [`Pickle`]. Values are shared and may refer to each other in cycles, so they live in one list.
pub(crate) type Id = usize;

/// A storage: a flat run of numbers in an entry of the archive.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Storage {
    /// Name of the archive entry below `data/`.
    pub key: String,
    pub dtype: Dtype,
    /// Numbers, not bytes.
    pub len: usize,
}

/// A tensor: a strided view of a storage. Offset and strides count numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub storage: Storage,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    None,
    Int(i64),
    Fraction(f64),
    Text(String),
    /// Truth values, bytes, whole numbers beyond 64 bits, fractions in decimal text: of no use here.
    Other,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Storage),
    Tensor(View),
    Global(Global),
    /// An object of a known harmless class, not built; the class's name.
    Object(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Global {
    Dict,
    RebuildTensor,
    RebuildParameter,
    StorageClass(String),
    Opaque(String),
}

/// All values of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

/// Why a pickle cannot be read; completes "the file ...".
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum PickleError {
    #[error("ends within its description of the tensors (data.pkl): download it again")]
    Truncated,
    #[error("has a damaged description of its tensors (data.pkl, byte {at}: {problem}): download it again")]
    Malformed { at: usize, problem: String },
    #[error(
        "asks to run {name}, which weights have no need for; nothing was run. \
         Do not open this file with other programs, and get the weights from their publisher"
    )]
    Forbidden { name: String },
}

impl Pickle {
    /// Reads the bytes of a pickle.
    pub fn parse(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    pub fn root(&self) -> &Value {
        &self.values[self.root]
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// The entries of a dict that have text keys, in order.
    pub fn entries<'a>(&'a self, dict: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let pairs = if let Value::Dict(pairs) = dict { pairs.as_slice() } else { &[] };
        pairs.iter().filter_map(|(k, v)| match self.get(*k) {
            Value::Text(key) => Some((key.as_str(), self.get(*v))),
            _ => None,
        })
    }

    /// The value under a text key of a dict; the last one, as Python would have it.
    pub fn item<'a>(&'a self, dict: &'a Value, key: &str) -> Option<&'a Value> {
        self.entries(dict).filter(|(k, _)| *k == key).last().map(|(_, v)| v)
    }
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::None => "None".into(),
            Self::Int(_) | Self::Fraction(_) => "a number".into(),
            Self::Text(_) => "a text".into(),
            Self::Other => "a setting".into(),
            Self::List(_) | Self::Tuple(_) => "a list".into(),
            Self::Dict(_) => "a dict".into(),
            Self::Storage(_) => "a storage".into(),
            Self::Tensor(_) => "a tensor".into(),
            Self::Global(_) => "a class".into(),
            Self::Object(name) => format!("an object of {name}"),
        }
    }
}

/// What may be named in a checkpoint; `None` is refused.
fn global(module: &str, name: &str) -> Option<Global> {
    let full = format!("{module}.{name}");
    let package = module.split('.').next().unwrap_or(module);
    Some(match full.as_str() {
        "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => Global::Dict,
        "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => Global::RebuildTensor,
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => Global::RebuildParameter,
        _ if matches!(module, "torch" | "torch.storage") && name.ends_with("Storage") => {
            Global::StorageClass(name.into())
        }
        _ if harmless(module, name, package) => Global::Opaque(full),
        _ => return None,
    })
}

/// Classes that training frameworks leave in checkpoints; they are noted, not built.
fn harmless(module: &str, name: &str, package: &str) -> bool {
    const PACKAGES: [&str; 17] = [
        "argparse",
        "collections",
        "datetime",
        "decimal",
        "deepspeed",
        "enum",
        "fractions",
        "lightning",
        "lightning_fabric",
        "lightning_utilities",
        "ml_collections",
        "numpy",
        "omegaconf",
        "openfold3",
        "pathlib",
        "pytorch_lightning",
        "typing",
    ];
    const BUILTINS: [&str; 13] = [
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "set",
        "slice",
        "str",
        "tuple",
    ];
    match module {
        "torch" => {
            let formats = ["float", "double", "half", "bfloat", "int", "short", "long", "uint", "bool", "complex"];
            matches!(name, "Size" | "device" | "dtype" | "Tensor") || formats.iter().any(|f| name.starts_with(f))
        }
        "builtins" | "__builtin__" => BUILTINS.contains(&name),
        "copyreg" | "copy_reg" => name == "_reconstructor",
        "_codecs" => name == "encode",
        _ if module.starts_with("torch.") => {
            ["torch._utils", "torch.nn", "torch.optim", "torch.serialization", "torch.torch_version", "torch._C"]
                .iter()
                .any(|m| module == *m || module.starts_with(&format!("{m}.")))
        }
        _ => {
            PACKAGES.contains(&package)
                && !module.split('.').any(|part| part == "os" || part == "sys" || part == "testing")
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let op = self.byte()?;
            match op {
                0x80 => match self.byte()? {
                    0..=5 => {}
                    version => return self.malformed(format!("protocol {version}")),
                },
                0x95 => drop(self.take(8)?),               // FRAME
                b'.' => return self.pop(),                 // STOP
                b'(' => self.marks.push(self.stack.len()), // MARK
                b'0' => drop(self.pop_or_mark()?),         // POP
                b'1' => drop(self.pop_mark()?),            // POP_MARK
                b'2' => self.stack.push(self.top()?),      // DUP
                b'N' => self.push(Value::None),            // NONE
                0x88 | 0x89 => self.push(Value::Other),    // NEWTRUE, NEWFALSE
                b'I' | b'L' => {
                    let line = self.line()?;
                    self.push(match line.trim_end_matches('L') {
                        "00" | "01" if op == b'I' => Value::Other, // truth values
                        digits => digits.parse().map_or(Value::Other, Value::Int),
                    });
                }
                b'J' => {
                    let int = i32::from_le_bytes(self.array()?); // BININT
                    self.push(Value::Int(int.into()));
                }
                b'K' => self.push_size(1, |n| Value::Int(n as i64))?, // BININT1
                b'M' => self.push_size(2, |n| Value::Int(n as i64))?, // BININT2
                0x8a => self.long(1)?,                                // LONG1
                0x8b => self.long(4)?,                                // LONG4
                b'F' => {
                    self.line()?;
                    self.push(Value::Other);
                }
                b'G' => {
                    let fraction = f64::from_be_bytes(self.array()?); // BINFLOAT
                    self.push(Value::Fraction(fraction));
                }
                b'S' => {
                    let text = self.line()?.trim_matches(['\'', '"']).to_owned();
                    self.push(Value::Text(text));
                }
                b'V' => {
                    let text = self.line()?.to_owned();
                    self.push(Value::Text(text));
                }
                b'U' | 0x8c => self.text(1)?, // SHORT_BINSTRING, SHORT_BINUNICODE
                b'T' | b'X' => self.text(4)?, // BINSTRING, BINUNICODE
                0x8d => self.text(8)?,        // BINUNICODE8
                b'C' => self.skip(1)?,        // SHORT_BINBYTES
                b'B' => self.skip(4)?,        // BINBYTES
                0x8e | 0x96 => self.skip(8)?, // BINBYTES8, BYTEARRAY8
                b']' => self.push(Value::List(Vec::new())), // EMPTY_LIST
                b')' => self.push(Value::Tuple(Vec::new())), // EMPTY_TUPLE
                b'}' => self.push(Value::Dict(Vec::new())), // EMPTY_DICT
                0x8f => self.push(Value::Object("set".into())), // EMPTY_SET
                b'l' => self.collect(Value::List)?, // LIST
                b't' => self.collect(Value::Tuple)?, // TUPLE
                0x91 => self.collect(|_| Value::Object("frozenset".into()))?, // FROZENSET
                0x85..=0x87 => {
                    let n = usize::from(op - 0x84); // TUPLE1 to TUPLE3
                    let from = self.above(n)?;
                    let items = self.stack.split_off(from);
                    self.push(Value::Tuple(items));
                }
                b'd' => {
                    let pairs = self.pairs()?; // DICT
                    self.push(Value::Dict(pairs));
                }
                b'a' => {
                    let item = self.pop()?; // APPEND
                    self.extend(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?; // APPENDS, ADDITEMS
                    self.extend(items)?;
                }
                b's' => {
                    let from = self.above(2)?; // SETITEM
                    let pair = self.stack.split_off(from);
                    self.insert(vec![(pair[0], pair[1])])?;
                }
                b'u' => {
                    let pairs = self.pairs()?; // SETITEMS
                    self.insert(pairs)?;
                }
                b'p' => {
                    let key = self.memo_key()?; // PUT
                    self.memoise(key)?;
                }
                b'q' => self.memoise_size(1)?,                 // BINPUT
                b'r' => self.memoise_size(4)?,                 // LONG_BINPUT
                0x94 => self.memoise(self.memo.len() as u64)?, // MEMOIZE
                b'g' => {
                    let key = self.memo_key()?; // GET
                    self.recall(key)?;
                }
                b'h' => self.recall_size(1)?, // BINGET
                b'j' => self.recall_size(4)?, // LONG_BINGET
                b'c' => {
                    let (module, name) = (self.line()?.to_owned(), self.line()?.to_owned()); // GLOBAL
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?); // STACK_GLOBAL
                    self.global(&module, &name)?;
                }
                b'R' | 0x81 => {
                    let (args, callee) = (self.pop()?, self.pop()?); // REDUCE, NEWOBJ
                    self.call(callee, args)?;
                }
                0x92 => {
                    let (_keywords, args, callee) = (self.pop()?, self.pop()?, self.pop()?); // NEWOBJ_EX
                    self.call(callee, args)?;
                }
                b'b' => drop(self.pop()?), // BUILD: attributes, which weights do not have
                b'Q' => {
                    let id = self.pop()?; // BINPERSID
                    self.storage(id)?;
                }
                _ => return self.malformed(format!("opcode 0x{op:02x}")),
            }
        }
    }

    /// A call: tensors and dicts are made, known classes noted.
    fn call(&mut self, callee: Id, args: Id) -> Step<()> {
        let Value::Tuple(args) = self.values[args].clone() else { return self.malformed("a call without arguments") };
        let value = match self.values[callee].clone() {
            Value::Global(Global::Dict) => match args.first().map(|id| self.values[*id].clone()) {
                None => Value::Dict(Vec::new()),
                Some(Value::Dict(pairs)) => Value::Dict(pairs),
                Some(Value::List(items) | Value::Tuple(items)) => Value::Dict(
                    items
                        .iter()
                        .map(|id| match &self.values[*id] {
                            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                            _ => self.malformed("a dict of other things than pairs"),
                        })
                        .collect::<Step<_>>()?,
                ),
                Some(_) => return self.malformed("a dict of other things than pairs"),
            },
            Value::Global(Global::RebuildTensor) => Value::Tensor(self.view(&args)?),
            Value::Global(Global::RebuildParameter) => match args.first().map(|id| self.values[*id].clone()) {
                Some(tensor @ Value::Tensor(_)) => tensor,
                _ => return self.malformed("a parameter without tensor"),
            },
            Value::Global(Global::Opaque(name)) => Value::Object(name),
            Value::Object(name) => Value::Object(name),
            other => return self.malformed(format!("a call of {}", other.kind())),
        };
        self.push(value);
        Ok(())
    }

    /// `(storage, offset, shape, strides, ...)`.
    fn view(&self, args: &[Id]) -> Step<View> {
        let [storage, offset, shape, strides, ..] = args else { return self.malformed("a tensor without its shape") };
        let (Value::Storage(storage), Some(offset)) = (&self.values[*storage], self.count(*offset)) else {
            return self.malformed("a tensor without its data");
        };
        let (Some(shape), Some(strides)) = (self.counts(*shape), self.counts(*strides)) else {
            return self.malformed("a shape that is not a list of whole numbers");
        };
        if shape.len() != strides.len() {
            return self.malformed(format!("{} dimensions with {} strides", shape.len(), strides.len()));
        }
        let view = View { storage: storage.clone(), offset, shape, strides };
        let inside = view.end().is_some_and(|end| end <= view.storage.len);
        // A view that repeats numbers (stride 0) could ask for any amount of memory; weights have none.
        if !inside || view.len().is_none_or(|n| n > view.storage.len) {
            return self.malformed(format!("a tensor of shape {:?} in a storage of {}", view.shape, view.storage.len));
        }
        Ok(view)
    }

    /// `("storage", class, key, location, len)`.
    fn storage(&mut self, id: Id) -> Step<()> {
        let parts = if let Value::Tuple(parts) = &self.values[id] { parts.as_slice() } else { &[] };
        let [kind, class, key, _location, len, ..] = parts else {
            return self.malformed("a storage without its parts");
        };
        let (Value::Text(kind), Value::Text(key), Some(len)) =
            (&self.values[*kind], &self.values[*key], self.count(*len))
        else {
            return self.malformed("a storage without key and length");
        };
        let dtype = match &self.values[*class] {
            Value::Global(Global::StorageClass(class)) => Dtype::of_storage(class),
            _ => None,
        };
        let value = match dtype {
            Some(dtype) if kind == "storage" => Value::Storage(Storage { key: key.clone(), dtype, len }),
            _ => return self.malformed(format!("a storage of class {:?}", self.values[*class])),
        };
        self.push(value);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let value = global(module, name).ok_or_else(|| PickleError::Forbidden { name: format!("{module}.{name}") })?;
        self.push(Value::Global(value));
        Ok(())
    }

    fn count(&self, id: Id) -> Option<usize> {
        if let Value::Int(n) = self.values[id] { usize::try_from(n).ok() } else { None }
    }

    fn counts(&self, id: Id) -> Option<Vec<usize>> {
        let (Value::Tuple(items) | Value::List(items)) = &self.values[id] else { return None };
        items.iter().map(|id| self.count(*id)).collect()
    }

    // Containers.

    fn extend(&mut self, items: Vec<Id>) -> Step<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            Value::Object(_) => {}
            _ => return self.malformed("an append to something that is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, pairs: Vec<(Id, Id)>) -> Step<()> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(dict) => dict.extend(pairs),
            Value::Object(_) => {}
            _ => return self.malformed("an entry for something that is no dict"),
        }
        Ok(())
    }

    fn collect(&mut self, make: impl Fn(Vec<Id>) -> Value) -> Step<()> {
        let items = self.pop_mark()?;
        self.push(make(items));
        Ok(())
    }

    fn pairs(&mut self) -> Step<Vec<(Id, Id)>> {
        let items = self.pop_mark()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|p| (p[0], p[1])).collect())
        } else {
            self.malformed("a key without value")
        }
    }

    // The stack.

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    /// Where the stack had `n` values fewer; not below the last mark.
    fn above(&self, n: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= floor => Ok(from),
            _ => self.malformed("a value is missing"),
        }
    }

    fn top(&self) -> Step<Id> {
        Ok(self.stack[self.above(1)?])
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_or_mark(&mut self) -> Step<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => self.malformed("a mark is missing"),
        }
    }

    fn pop_text(&mut self) -> Step<String> {
        match self.pop().map(|id| self.values[id].clone())? {
            Value::Text(text) => Ok(text),
            _ => self.malformed("a name that is no text"),
        }
    }

    // The memo.

    fn memo_key(&mut self) -> Step<u64> {
        match self.line()?.parse() {
            Ok(key) => Ok(key),
            Err(_) => self.malformed("a memo key that is no number"),
        }
    }

    fn memoise(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn memoise_size(&mut self, n: usize) -> Step<()> {
        let key = self.size(n)?;
        self.memoise(key)
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        match self.memo.get(&key) {
            Some(id) => self.stack.push(*id),
            None => return self.malformed(format!("memo {key} is empty")),
        }
        Ok(())
    }

    fn recall_size(&mut self, n: usize) -> Step<()> {
        let key = self.size(n)?;
        self.recall(key)
    }

    // Bytes.

    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len()).ok_or(PickleError::Truncated)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn size(&mut self, n: usize) -> Step<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    }

    fn push_size(&mut self, n: usize, make: impl Fn(u64) -> Value) -> Step<()> {
        let size = self.size(n)?;
        self.push(make(size));
        Ok(())
    }

    fn sized(&mut self, n: usize) -> Step<&'a [u8]> {
        let len = usize::try_from(self.size(n)?).map_err(|_| PickleError::Truncated)?;
        self.take(len)
    }

    fn text(&mut self, n: usize) -> Step<()> {
        let text = String::from_utf8_lossy(self.sized(n)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn skip(&mut self, n: usize) -> Step<()> {
        self.sized(n)?;
        self.push(Value::Other);
        Ok(())
    }

    /// A whole number of any length in two's complement; beyond 64 bits of no use here.
    fn long(&mut self, n: usize) -> Step<()> {
        let bytes = self.sized(n)?;
        let value = if bytes.len() <= 8 {
            let fill = if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 };
            let mut full = [fill; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(full))
        } else {
            Value::Other
        };
        self.push(value);
        Ok(())
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|b| *b == b'\n').ok_or(PickleError::Truncated)?;
        self.at += len + 1;
        match std::str::from_utf8(&rest[..len]) {
            Ok(line) => Ok(line),
            Err(_) => self.malformed("a name that is not UTF-8"),
        }
    }

    fn malformed<T>(&self, problem: impl Into<String>) -> Step<T> {
        Err(PickleError::Malformed { at: self.at, problem: problem.into() })
    }
}

impl View {
    /// Numbers of the tensor; `None` beyond the address space.
    pub fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }

    /// One past the last number of the storage that the view touches.
    fn end(&self) -> Option<usize> {
        if self.len()? == 0 {
            return Some(self.offset);
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?));
        last?.checked_add(1)
    }

    /// The bytes of the tensor in row-major order, out of those of its storage.
    pub fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let size = self.storage.dtype.size();
        let n: usize = self.shape.iter().product();
        if n == 0 {
            return Vec::new();
        }
        // Dimensions from the last one that lie one behind the other need no loop.
        let (mut run, mut outer) = (1, self.shape.len());
        while outer > 0 && (self.strides[outer - 1] == run || self.shape[outer - 1] == 1) {
            run *= self.shape[outer - 1];
            outer -= 1;
        }
        let mut out = Vec::with_capacity(n * size);
        let mut index = vec![0; outer];
        loop {
            let at = self.offset + index.iter().zip(&self.strides).map(|(i, s)| i * s).sum::<usize>();
            out.extend_from_slice(&storage[at * size..(at + run) * size]);
            let Some(d) = (0..outer).rev().find(|d| index[*d] + 1 < self.shape[*d]) else { return out };
            index[d] += 1;
            index[d + 1..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Pickle, PickleError> {
        Pickle::parse(bytes)
    }

    /// The pickles of fixtures/convert (fixtures/convert/regen.py).
    fn fixture(name: &str) -> Vec<u8> {
        let path = format!("{}/../fixtures/convert/{name}.pt", env!("CARGO_MANIFEST_DIR"));
        let mut zip = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name(&format!("{name}/data.pkl")).unwrap(), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_a_trainer_leaves_is_noted_and_not_built() {
        let pickle = parse(&fixture("wrapper")).unwrap();
        let settings = pickle.item(pickle.root(), "hyper_parameters").unwrap();
        assert_eq!(pickle.item(settings, "path").unwrap().kind(), "an object of pathlib.PosixPath");
        let loops = pickle.item(pickle.root(), "loops").unwrap();
        assert!(matches!(pickle.item(loops, "neg"), Some(Value::Int(-70000))));
        assert!(matches!(pickle.item(loops, "big"), Some(Value::Other)));
    }

    #[test]
    fn a_call_of_anything_else_is_refused_by_name() {
        for (bytes, name) in [
            (&b"cos\nsystem\n(X\x04\x00\x00\x00truetR."[..], "os.system"),
            (b"cbuiltins\neval\n.", "builtins.eval"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
            (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
            (b"csubprocess\nPopen\n.", "subprocess.Popen"),
            (b"ctorch\nload\n.", "torch.load"),
            (b"ctorch.hub\nload\n.", "torch.hub.load"),
            (b"crunpy\n_run_code\n.", "runpy._run_code"),
        ] {
            assert_eq!(parse(bytes).unwrap_err(), PickleError::Forbidden { name: name.into() });
        }
        assert_eq!(parse(&fixture("evil")).unwrap_err(), PickleError::Forbidden { name: "posix.system".into() });
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = fixture("views");
        assert!(parse(&bytes).is_ok());
        for n in 0..bytes.len() {
            assert_eq!(parse(&bytes[..n]).unwrap_err(), PickleError::Truncated, "cut to {n} bytes");
        }
    }

    /// Any answer is right but a panic or a view outside of its storage.
    #[test]
    fn no_changed_byte_is_a_panic() {
        for name in ["views", "views4", "wrapper"] {
            let bytes = fixture(name);
            for at in 0..bytes.len() {
                for new in [0, 1, b'.', b'(', b'R', b'u', 0x80, 0x94, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                    let mut changed = bytes.clone();
                    changed[at] = new;
                    for view in parse(&changed).iter().flat_map(|p| &p.values) {
                        if let Value::Tensor(view) = view {
                            assert!(view.end().unwrap() <= view.storage.len);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn views_are_gathered_in_row_major_order() {
        let storage = Storage { key: "0".into(), dtype: Dtype::U8, len: 12 };
        let bytes: Vec<u8> = (0..12).collect();
        let gather = |offset, shape: &[usize], strides: &[usize]| {
            View { storage: storage.clone(), offset, shape: shape.into(), strides: strides.into() }.gather(&bytes)
        };
        assert_eq!(gather(0, &[3, 4], &[4, 1]), bytes);
        assert_eq!(gather(0, &[4, 3], &[1, 4]), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(gather(5, &[2, 1, 2], &[4, 99, 2]), [5, 7, 9, 11]);
        assert_eq!(gather(11, &[], &[]), [11]);
        assert!(gather(0, &[0, 5], &[5, 1]).is_empty());
    }
}
