//! A graph under construction, and values in it that formulas are written with.
//!
//! [`Value`]s are handles: `(x * 2.0 + y).exp()` appends three nodes. A number beside a value is a constant in double precision.
//! What is computed or stored already is not again, so formulas need not share by hand. Nodes are in the order in which they were
//! made, which is topological.

use std::{
    cell::RefCell,
    collections::HashMap,
    ops::{Add, Div, Mul, Neg, Sub},
};

use prost::Message;

use super::proto::{
    self, Attribute, AttributeType, DataType, Dimension, Node, Shape, Size, Tensor, TensorType, Type, ValueInfo,
};

/// The dimension that counts events.
const EVENTS: &str = "events";

/// A graph to which nodes are appended.
#[derive(Default)]
pub(super) struct Graph(RefCell<Parts>);

#[derive(Default)]
struct Parts {
    /// The names of all values, by their index.
    names: Vec<String>,
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    /// The values that nodes give, by operator, inputs and encoded attributes.
    computed: HashMap<(String, Vec<usize>, Vec<u8>), usize>,
    /// The constants, by their encoded tensors without a name.
    constants: HashMap<Vec<u8>, usize>,
}

/// What a node gives, an input, or a constant.
#[derive(Clone, Copy)]
pub(super) struct Value<'g> {
    graph: &'g Graph,
    index: usize,
}

impl Graph {
    /// Declares an input of so many numbers an event.
    pub(super) fn input(&self, name: &str, data: DataType, width: usize, doc: &str) -> Value<'_> {
        let mut parts = self.0.borrow_mut();
        parts.inputs.push(info(name, data, Some(width), doc));
        let index = parts.name(name.to_owned());
        Value { graph: self, index }
    }

    /// Gives a value out under a name; of shape `[events, width]`, or `[events]` without a width.
    pub(super) fn output(&self, value: Value<'_>, name: &str, data: DataType, width: Option<usize>, doc: &str) {
        let shape = width.map_or(vec![-1], |width| vec![-1, width as i64]);
        let shape = self.integers(&shape);
        self.push(name.to_owned(), "Reshape", &[value, shape], Vec::new());
        self.0.borrow_mut().outputs.push(info(name, data, width, doc));
    }

    /// A tensor of single precision, under a name.
    pub(super) fn floats(&self, name: String, dims: &[usize], values: &[f32]) -> Value<'_> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(Tensor { name, ..tensor(DataType::Float, dims, bytes) })
    }

    /// A tensor of double precision.
    pub(super) fn doubles(&self, dims: &[usize], values: &[f64]) -> Value<'_> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Double, dims, bytes)
    }

    /// A row of whole numbers.
    pub(super) fn integers(&self, values: &[i64]) -> Value<'_> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], bytes)
    }

    /// Values side by side.
    pub(super) fn concat<'g>(&'g self, values: &[Value<'g>]) -> Value<'g> {
        self.node("Concat", values, vec![integer("axis", 1)])
    }

    /// What a node gives; appended if there is none like it.
    pub(super) fn node<'g>(&'g self, op: &str, inputs: &[Value<'g>], attribute: Vec<Attribute>) -> Value<'g> {
        let encoded = attribute.iter().flat_map(Message::encode_to_vec).collect();
        let key = (op.to_owned(), inputs.iter().map(|value| value.index).collect(), encoded);
        if let Some(&index) = self.0.borrow().computed.get(&key) {
            return Value { graph: self, index };
        }
        let output = format!("{}_{}", op.to_ascii_lowercase(), self.0.borrow().nodes.len());
        let value = self.push(output, op, inputs, attribute);
        self.0.borrow_mut().computed.insert(key, value.index);
        value
    }

    fn push<'g>(&'g self, output: String, op: &str, inputs: &[Value<'g>], attribute: Vec<Attribute>) -> Value<'g> {
        let mut parts = self.0.borrow_mut();
        let input = inputs.iter().map(|value| parts.names[value.index].clone()).collect();
        let (name, op_type) = (output.clone(), op.to_owned());
        parts.nodes.push(Node { input, output: vec![output.clone()], name, op_type, attribute });
        let index = parts.name(output);
        Value { graph: self, index }
    }

    /// The message.
    pub(super) fn finish(self, name: &str) -> proto::Graph {
        let parts = self.0.into_inner();
        proto::Graph {
            node: parts.nodes,
            name: name.to_owned(),
            initializer: parts.initializers,
            input: parts.inputs,
            output: parts.outputs,
        }
    }

    fn constant(&self, data: DataType, dims: &[usize], raw_data: Vec<u8>) -> Value<'_> {
        let mut tensor = tensor(data, dims, raw_data);
        let key = tensor.encode_to_vec();
        if let Some(&index) = self.0.borrow().constants.get(&key) {
            return Value { graph: self, index };
        }
        tensor.name = format!("constant_{}", self.0.borrow().constants.len());
        let value = self.initializer(tensor);
        self.0.borrow_mut().constants.insert(key, value.index);
        value
    }

    fn initializer(&self, tensor: Tensor) -> Value<'_> {
        let mut parts = self.0.borrow_mut();
        let index = parts.name(tensor.name.clone());
        parts.initializers.push(tensor);
        Value { graph: self, index }
    }
}

fn tensor(data: DataType, dims: &[usize], raw_data: Vec<u8>) -> Tensor {
    let dims = dims.iter().map(|&size| size as i64).collect();
    Tensor { dims, data_type: data.into(), name: String::new(), raw_data }
}

impl Parts {
    fn name(&mut self, name: String) -> usize {
        self.names.push(name);
        self.names.len() - 1
    }
}

impl<'g> Value<'g> {
    /// A node of this value alone.
    fn apply(self, op: &str) -> Self {
        self.graph.node(op, &[self], Vec::new())
    }

    /// A node of this value and another.
    pub(super) fn with(self, op: &str, other: impl Operand<'g>) -> Self {
        self.graph.node(op, &[self, other.value(self.graph)], Vec::new())
    }

    pub(super) fn exp(self) -> Self {
        self.apply("Exp")
    }

    pub(super) fn ln(self) -> Self {
        self.apply("Log")
    }

    pub(super) fn sqrt(self) -> Self {
        self.apply("Sqrt")
    }

    pub(super) fn abs(self) -> Self {
        self.apply("Abs")
    }

    pub(super) fn sin(self) -> Self {
        self.apply("Sin")
    }

    pub(super) fn cos(self) -> Self {
        self.apply("Cos")
    }

    pub(super) fn tanh(self) -> Self {
        self.apply("Tanh")
    }

    pub(super) fn not(self) -> Self {
        self.apply("Not")
    }

    pub(super) fn square(self) -> Self {
        self * self
    }

    pub(super) fn min(self, other: f64) -> Self {
        self.with("Min", other)
    }

    pub(super) fn max(self, other: f64) -> Self {
        self.with("Max", other)
    }

    pub(super) fn clamp(self, low: f64, high: f64) -> Self {
        self.max(low).min(high)
    }

    pub(super) fn less(self, other: impl Operand<'g>) -> Self {
        self.with("Less", other)
    }

    pub(super) fn greater(self, other: impl Operand<'g>) -> Self {
        self.with("Greater", other)
    }

    pub(super) fn at_least(self, other: impl Operand<'g>) -> Self {
        self.less(other).not()
    }

    /// One value where this condition holds, another where it does not.
    pub(super) fn choose(self, one: impl Operand<'g>, other: impl Operand<'g>) -> Self {
        self.graph.node("Where", &[self, one.value(self.graph), other.value(self.graph)], Vec::new())
    }

    pub(super) fn cast(self, to: DataType) -> Self {
        self.graph.node("Cast", &[self], vec![integer("to", i64::from(i32::from(to)))])
    }

    /// One column, `[events, 1]`.
    pub(super) fn column(self, index: usize) -> Self {
        let at = self.graph.integers(&[index as i64]);
        self.graph.node("Gather", &[self, at], vec![integer("axis", 1)])
    }

    /// The first columns.
    pub(super) fn first(self, columns: usize) -> Self {
        let [from, to, axis] = [0, columns as i64, 1].map(|at| self.graph.integers(&[at]));
        self.graph.node("Slice", &[self, from, to, axis], Vec::new())
    }

    pub(super) fn reshape(self, shape: &[i64]) -> Self {
        let shape = self.graph.integers(shape);
        self.graph.node("Reshape", &[self, shape], Vec::new())
    }

    pub(super) fn graph(self) -> &'g Graph {
        self.graph
    }
}

/// What a formula may hold beside a value.
pub(super) trait Operand<'g> {
    fn value(self, graph: &'g Graph) -> Value<'g>;
}

impl<'g> Operand<'g> for Value<'g> {
    fn value(self, _: &'g Graph) -> Value<'g> {
        self
    }
}

impl<'g> Operand<'g> for f64 {
    fn value(self, graph: &'g Graph) -> Value<'g> {
        graph.doubles(&[], &[self])
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:literal)+) => {$(
        impl<'g, O: Operand<'g>> $trait<O> for Value<'g> {
            type Output = Self;

            fn $method(self, other: O) -> Self {
                self.with($op, other)
            }
        }
    )+};
}
operators! { Add add "Add" Sub sub "Sub" Mul mul "Mul" Div div "Div" }

impl Neg for Value<'_> {
    type Output = Self;

    fn neg(self) -> Self {
        self.apply("Neg")
    }
}

pub(super) fn integer(name: &str, i: i64) -> Attribute {
    let r#type = AttributeType::Int.into();
    Attribute { name: name.into(), i: Some(i), r#type, ..Attribute::default() }
}

pub(super) fn integers(name: &str, ints: Vec<i64>) -> Attribute {
    Attribute { name: name.into(), ints, r#type: AttributeType::Ints.into(), ..Attribute::default() }
}

pub(super) fn float(name: &str, f: f32) -> Attribute {
    let r#type = AttributeType::Float.into();
    Attribute { name: name.into(), f: Some(f), r#type, ..Attribute::default() }
}

/// An input or output of shape `[events, width]`, or `[events]` without a width.
fn info(name: &str, data: DataType, width: Option<usize>, doc: &str) -> ValueInfo {
    let sizes = std::iter::once(Size::Named(EVENTS.into())).chain(width.map(|width| Size::Fixed(width as i64)));
    let dim = sizes.map(|size| Dimension { size: Some(size) }).collect();
    let tensor_type = Some(TensorType { elem_type: data.into(), shape: Some(Shape { dim }) });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type }), doc_string: doc.into() }
}
