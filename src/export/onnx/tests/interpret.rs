//! A graph evaluated as its operators are defined, so that tests need no runtime: matrices of f64, rounded where a value is an f32.

use std::collections::HashMap;

use super::super::proto::{self, DataType, Node, Tensor};

/// A matrix; constants have one row, scalars one number.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) columns: usize,
    pub(super) values: Vec<f64>,
}

impl Matrix {
    pub(super) fn new(columns: usize, values: impl IntoIterator<Item = f64>) -> Self {
        Self { columns, values: values.into_iter().collect() }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// A number with rows and columns of size 1 repeated.
    fn at(&self, row: usize, column: usize) -> f64 {
        let row = if self.rows() == 1 { 0 } else { row };
        self.values[row * self.columns + if self.columns == 1 { 0 } else { column }]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(self.columns, self.values.iter().map(|&x| f(x)))
    }
}

/// All values of the graph by name.
pub(super) fn run(graph: &proto::Graph, inputs: Vec<(&str, Matrix)>) -> HashMap<String, Matrix> {
    let mut values: HashMap<String, Matrix> =
        inputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    values.extend(graph.initializer.iter().map(|tensor| (tensor.name.clone(), constant(tensor))));
    for node in &graph.node {
        let inputs: Vec<&Matrix> = node.input.iter().map(|name| &values[name]).collect();
        let output = apply(node, &inputs);
        values.insert(node.output[0].clone(), output);
    }
    values
}

fn constant(tensor: &Tensor) -> Matrix {
    let bytes = &tensor.raw_data;
    let values: Vec<f64> = match tensor.data_type() {
        DataType::Float => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        DataType::Double => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DataType::Int64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("no constant is {other:?}"),
    };
    Matrix { columns: tensor.dims.last().map_or(1, |&size| size as usize), values }
}

fn apply(node: &Node, inputs: &[&Matrix]) -> Matrix {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let truth = |holds: bool| f64::from(u8::from(holds));
    let unary = |f: fn(f64) -> f64| inputs[0].map(f);
    let binary = |f: &dyn Fn(f64, f64) -> f64| broadcast(inputs, |x| f(x[0], x[1]));
    match &*node.op_type {
        "Neg" => unary(|x| -x),
        "Exp" => unary(f64::exp),
        "Log" => unary(f64::ln),
        "Sqrt" => unary(f64::sqrt),
        "Abs" => unary(f64::abs),
        "Sin" => unary(f64::sin),
        "Cos" => unary(f64::cos),
        "Tanh" => unary(f64::tanh),
        "Not" => unary(|x| 1.0 - x),
        "Add" => binary(&|a, b| a + b),
        "Sub" => binary(&|a, b| a - b),
        "Mul" => binary(&|a, b| a * b),
        "Div" => binary(&|a, b| a / b),
        "Min" => binary(&f64::min),
        "Max" => binary(&f64::max),
        "Pow" => binary(&f64::powf),
        "Less" => binary(&|a, b| truth(a < b)),
        "Greater" => binary(&|a, b| truth(a > b)),
        "And" => binary(&|a, b| a * b),
        "Or" => binary(&|a, b| a.max(b)),
        "Where" => broadcast(inputs, |x| if x[0] == 1.0 { x[1] } else { x[2] }),
        "LeakyRelu" => {
            let slope = f64::from(attribute("alpha").and_then(|a| a.f).unwrap());
            inputs[0].map(|x| if x < 0.0 { slope * x } else { x })
        }
        "Cast" => match attribute("to").and_then(|a| a.i).unwrap() {
            1 => unary(|x| f64::from(x as f32)),
            7 => unary(f64::trunc),
            _ => inputs[0].clone(),
        },
        // A table looked up, or a column.
        "Gather" if attribute("axis").is_none() => inputs[1].map(|index| inputs[0].values[index as usize]),
        "Gather" => {
            let column = inputs[1].values[0] as usize;
            Matrix::new(1, (0..inputs[0].rows()).map(|row| inputs[0].at(row, column)))
        }
        "Slice" => {
            let width = inputs[2].values[0] as usize;
            let rows = inputs[0].values.chunks_exact(inputs[0].columns);
            Matrix::new(width, rows.flat_map(|row| row[..width].to_vec()))
        }
        "Concat" => {
            let rows = 0..inputs.iter().map(|input| input.rows()).max().unwrap();
            let row = |row: usize| inputs.iter().flat_map(move |x| (0..x.columns).map(move |column| x.at(row, column)));
            Matrix::new(inputs.iter().map(|input| input.columns).sum(), rows.flat_map(row))
        }
        "MatMul" => product(inputs[0], inputs[1]),
        "Gemm" => {
            let product = product(inputs[0], inputs[1]);
            broadcast(&[&product, inputs[2]], |x| f64::from((x[0] + x[1]) as f32))
        }
        // Only given shapes that change nothing here.
        "Reshape" => inputs[0].clone(),
        other => panic!("no test has needed {other} so far"),
    }
}

fn broadcast(inputs: &[&Matrix], f: impl Fn(&[f64]) -> f64) -> Matrix {
    let rows = inputs.iter().map(|input| input.rows()).max().unwrap();
    let columns = inputs.iter().map(|input| input.columns).max().unwrap();
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let at = |(row, column)| inputs.iter().map(|input| input.at(row, column)).collect::<Vec<_>>();
    Matrix::new(columns, cells.map(|cell| f(&at(cell))))
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let cells = (0..a.rows()).flat_map(|row| (0..b.columns).map(move |column| (row, column)));
    let dot = |(row, column)| (0..a.columns).map(|k| a.at(row, k) * b.values[k * b.columns + column]).sum();
    Matrix::new(b.columns, cells.map(dot))
}
