// Exact on purpose: these numbers are copied or representable.
#![allow(clippy::float_cmp)]

use std::sync::Arc;

use parquet::{
    basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel},
    data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
    },
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use proptest::prelude::*;

use super::*;
use crate::data::Table;

const SCHEMA: &str = "message events {
    required double a; required int32 b (INTEGER(32,false)); optional int64 c; required binary d (UTF8);
    required int32 e (DATE);
}";

/// Two row groups of three events; the fifth value of `c` is missing.
fn file(path: &Path) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
    for group in 0..2 {
        let mut row_group = writer.next_row_group().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[1.5, 2.5, 3.5], None, None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[-1, 2, 3], None, None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        let (values, levels): (&[i64], &[i16]) =
            if group == 0 { (&[7, 8, 9], &[1, 1, 1]) } else { (&[7, 9], &[1, 0, 1]) };
        column.typed::<Int64Type>().write_batch(values, Some(levels), None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[(); 3].map(|()| ByteArray::from("x")), None, None).unwrap();
        column.close().unwrap();
        let mut column = row_group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap();
        column.close().unwrap();
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

fn table(wanted: &[&str]) -> Result<Table, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    file(&path);
    let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    crate::data::read_table(&path, Some(&wanted))
}

#[test]
fn numbers_of_any_width_are_read_across_row_groups() {
    let table = table(&["b", "a"]).unwrap();
    assert_eq!(table.column("a").unwrap(), [1.5, 2.5, 3.5, 1.5, 2.5, 3.5]);
    assert_eq!(table.column("b").unwrap()[0], u32::MAX as f32);
}

#[test]
fn missing_values_text_and_dates_are_errors_that_say_where() {
    for (name, says) in [
        ("c", "column `c`, row 5: the value is missing"),
        ("d", "the column `d` does not hold numbers but text"),
        ("e", "the column `e` does not hold numbers but dates"),
    ] {
        let message = table(&[name]).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

/// The values of a column.
enum Values {
    Bools(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Doubles(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
    Fixed(Vec<Vec<u8>>),
}

/// Writes required columns in one row group.
fn write(path: &Path, schema: &str, columns: &[Values], properties: WriterProperties) {
    let schema = Arc::new(parse_message_type(&format!("message events {{ {schema} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let written = match values {
            Values::Bools(values) => column.typed::<BoolType>().write_batch(values, None, None),
            Values::Ints(values) => column.typed::<Int32Type>().write_batch(values, None, None),
            Values::Longs(values) => column.typed::<Int64Type>().write_batch(values, None, None),
            Values::Doubles(values) => column.typed::<DoubleType>().write_batch(values, None, None),
            Values::Bytes(values) => {
                let values: Vec<ByteArray> = values.iter().map(|bytes| bytes.clone().into()).collect();
                column.typed::<ByteArrayType>().write_batch(&values, None, None)
            }
            Values::Fixed(values) => {
                let values: Vec<FixedLenByteArray> =
                    values.iter().map(|bytes| ByteArray::from(bytes.clone()).into()).collect();
                column.typed::<FixedLenByteArrayType>().write_batch(&values, None, None)
            }
        };
        written.unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// Returns the columns that are read of such a file without names, and those that are left out.
fn read(schema: &str, columns: &[Values], properties: WriterProperties) -> (Result<Table, DataError>, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    write(&path, schema, columns, properties);
    let left_out = crate::data::read::columns(&path, None).unwrap().left_out();
    (crate::data::read_table(&path, None), left_out)
}

#[test]
fn truth_values_half_floats_and_decimals_are_numbers() {
    let schema = "
        required boolean truth; required fixed_len_byte_array(2) half (FLOAT16);
        required int32 cents (DECIMAL(9,2)); required int64 long (DECIMAL(18,0));
        required binary bytes (DECIMAL(20,1)); required fixed_len_byte_array(20) wide (DECIMAL(40,3));";
    let halves = [0.5, -2.0].map(|x| f16::from_f32(x).to_le_bytes().to_vec()).to_vec();
    let wide = |number: i128| {
        let sign = if number < 0 { 0xff } else { 0 };
        [&[sign; 4][..], &number.to_be_bytes()].concat()
    };
    let columns = [
        Values::Bools(vec![true, false]),
        Values::Fixed(halves),
        Values::Ints(vec![1234, -5]),
        Values::Longs(vec![7, -8]),
        Values::Bytes(vec![vec![0x01, 0x00], vec![0xff]]),
        Values::Fixed(vec![wide(1500), wide(-2500)]),
    ];
    let (table, left_out) = read(schema, &columns, WriterProperties::default());
    let table = table.unwrap();
    assert_eq!(table.names(), ["truth", "half", "cents", "long", "bytes", "wide"]);
    assert_eq!(table.columns(), [[1., 0.], [0.5, -2.], [12.34, -0.05], [7., -8.], [25.6, -0.1], [1.5, -2.5]]);
    assert_eq!(left_out, None);
}

#[test]
fn every_codec_is_read() {
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(false).build();
        let values: Vec<f64> = (0..500).map(|k| f64::from(k % 10)).collect();
        let (table, _) = read("required double a;", &[Values::Doubles(values)], properties);
        assert_eq!(table.unwrap().column("a").unwrap()[..11], [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 0.], "{codec}");
    }
}

#[test]
fn columns_that_are_no_numbers_are_listed_with_what_they_hold() {
    let schema = "
        required double a; required binary text (UTF8); required binary raw; required int64 when (TIMESTAMP_MILLIS);
        required int32 day (DATE); required int32 hour (TIME_MILLIS); required group p { required double x; required double y; }
        required group q { required int32 hits; }";
    let two = || Values::Bytes(vec![b"x".to_vec(); 2]);
    let mut columns = vec![Values::Doubles(vec![1., 2.]), two(), two(), Values::Longs(vec![1, 2])];
    columns.extend([Values::Ints(vec![1, 2]), Values::Ints(vec![1, 2])]);
    columns.extend([Values::Doubles(vec![1., 2.]), Values::Doubles(vec![1., 2.])]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    columns.push(Values::Ints(vec![1, 2]));
    write(&path, schema, &columns, WriterProperties::default());
    assert_eq!(
        crate::data::read::columns(&path, None).unwrap().left_out().unwrap(),
        "`text` (text), `raw` (bytes or text), `when` (dates and times), `day` (dates), `hour` (times of day), \
         `p` (nested values), `q` (nested values)"
    );
    assert_eq!(crate::data::read_table(&path, None).unwrap().names(), ["a"]);
    let nested = crate::data::read_table(&path, Some(&["p".to_owned()])).unwrap_err().to_string();
    assert!(nested.contains("the column `p` does not hold numbers but nested values"), "{nested}");
}

#[test]
fn an_index_of_pandas_is_no_feature_unless_it_is_named() {
    let schema = "required double a; required int64 event; required int64 __index_level_1__;";
    let pandas = r#"{"index_columns": ["event", {"kind": "range"}], "columns": []}"#;
    let pandas = KeyValue::new("pandas".to_owned(), pandas.to_owned());
    let properties = || WriterProperties::builder().set_key_value_metadata(Some(vec![pandas.clone()])).build();
    let columns = [Values::Doubles(vec![1., 2.]), Values::Longs(vec![8, 9]), Values::Longs(vec![0, 1])];
    let (table, left_out) = read(schema, &columns, properties());
    assert_eq!(table.unwrap().names(), ["a"]);
    assert_eq!(left_out.unwrap(), "`event` (an index of pandas), `__index_level_1__` (an index of pandas)");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    write(&path, schema, &columns, properties());
    let named = crate::data::read_table(&path, Some(&["event".to_owned(), "a".to_owned()])).unwrap();
    assert_eq!(named.columns(), [[8., 9.], [1., 2.]]);
}

#[test]
fn two_columns_of_one_name_are_ambiguous_where_they_are_read() {
    let columns = [1., 2., 3.].map(|x| Values::Doubles(vec![x]));
    let schema = "required double a; required double b; required double a;";
    let (table, _) = read(schema, &columns, WriterProperties::default());
    let message = table.unwrap_err().to_string();
    assert!(message.contains("the column `a` occurs twice"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    write(&path, schema, &columns, WriterProperties::default());
    assert_eq!(crate::data::read_table(&path, Some(&["b".to_owned()])).unwrap().columns(), [[2.]]);
}

#[test]
fn identifiers_that_single_precision_merges_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let ids = || 20_000_000_i64..20_000_300;
    let columns = [
        Values::Longs(ids().collect()),
        Values::Doubles(ids().map(|id| id as f64).collect()),
        Values::Doubles(ids().map(|id| (id as f64).sin()).collect()),
    ];
    write(
        &path,
        "required int64 id; required double same; required double root;",
        &columns,
        WriterProperties::default(),
    );
    let merged = crate::data::read::stream(&path, None, &mut |_| Ok(std::ops::ControlFlow::Continue(()))).unwrap();
    let told = merged.iter().map(|merged| (merged.column.as_str(), merged.distinct, merged.left));
    assert_eq!(told.collect::<Vec<_>>(), [("id", 300, 151), ("same", 300, 151)]);
}

#[test]
fn the_embedded_events_are_thirty_thousand() {
    for name in ["train", "test"] {
        let path = format!("{}/examples/dijet/{name}.parquet", env!("CARGO_MANIFEST_DIR"));
        let table = crate::data::read_table(path.as_ref(), None).unwrap();
        assert_eq!((table.len(), table.names()), (30_000, crate::data::dijet::FEATURES.map(str::to_owned).as_slice()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_damaged_file_gives_a_table_or_an_error_and_never_a_panic(at: prop::sample::Index, byte: u8, cut: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.parquet");
        file(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        std::fs::write(&path, bytes).unwrap();
        let _ = crate::data::read::columns(&path, None);
        if let Ok(table) = crate::data::read_table(&path, Some(&["a".to_owned(), "b".to_owned()])) {
            prop_assert_eq!(table.len(), 6);
        }
    }
}
