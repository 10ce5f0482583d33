//! The lake: `lineitem` and `orders`, much as TPC-H has them, the same bytes in each run.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use fastrand::Rng;

/// Rows of a row group.
const GROUP: usize = 128 << 10;

/// Orders that are made at a time.
const STEP: u64 = 16_384;

/// The first and the last day of an order, in days since 1970: 1992-01-01 to 1998-08-02.
const DAYS: (i32, i32) = (8_035, 10_440);

/// What was shipped by then is delivered: 1995-06-17.
const TODAY: i32 = 9_298;

const PRIORITIES: [&str; 5] = ["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"];
const INSTRUCTIONS: [&str; 4] = ["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"];
const MODES: [&str; 7] = ["REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB"];
const WORDS: [&str; 32] = [
    "foxes",
    "ideas",
    "theodolites",
    "pinto",
    "beans",
    "instructions",
    "dependencies",
    "excuses",
    "platelets",
    "asymptotes",
    "courts",
    "dolphins",
    "multipliers",
    "sauternes",
    "warthogs",
    "frets",
    "dinos",
    "attainments",
    "somas",
    "braids",
    "hockey",
    "players",
    "furiously",
    "sly",
    "careful",
    "blithe",
    "quick",
    "fluffy",
    "slow",
    "quiet",
    "ruthless",
    "thin",
];

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Lineitem,
    Orders,
}

/// A file of the lake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) table: Table,
    pub(crate) number: u64,
    /// Orders of the file.
    orders: u64,
}

/// All files, of so many orders together.
pub(crate) fn files(orders: u64) -> Vec<File> {
    let of =
        |table, count| (0..count).map(move |number| File { table, number, orders: (orders / count).max(1) });
    of(Table::Lineitem, 8).chain(of(Table::Orders, 4)).collect()
}

impl Table {
    pub(crate) const ALL: [Self; 2] = [Self::Lineitem, Self::Orders];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lineitem => "lineitem",
            Self::Orders => "orders",
        }
    }
}

impl File {
    /// The key, which is the path.
    pub(crate) fn key(&self) -> String {
        format!("{}/part-{}.parquet", self.table.name(), self.number)
    }

    /// The file as Parquet. Another `edition` has other rows.
    pub(crate) fn parquet(&self, edition: u64) -> anyhow::Result<Vec<u8>> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP))
            .build();
        let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
        let first = self.number * self.orders;
        for start in (first..first + self.orders).step_by(usize::try_from(STEP)?) {
            let orders = (start..(start + STEP).min(first + self.orders)).map(|key| Order::new(key, edition));
            let batch = match self.table {
                Table::Lineitem => lines(orders)?,
                Table::Orders => heads(orders)?,
            };
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let new = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.clone()))?;
                    none.insert(new)
                }
            };
            writer.write(&batch)?;
        }
        writer.map_or(Ok(Vec::new()), |writer| Ok(writer.into_inner()?))
    }
}

/// An order, whose lines follow from it.
struct Order {
    key: u64,
    day: i32,
    dice: Rng,
}

impl Order {
    fn new(key: u64, edition: u64) -> Self {
        let mut dice = Rng::with_seed(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (edition << 56));
        Self { key, day: dice.i32(DAYS.0..DAYS.1), dice }
    }

    fn comment(&mut self, most: usize) -> String {
        let mut text = String::with_capacity(64);
        for _ in 0..self.dice.usize(2..most) {
            text.push_str(self.pick(&WORDS));
            text.push(' ');
        }
        // No two are equal.
        text.push_str(&self.dice.u32(..).to_string());
        text
    }

    fn pick(&mut self, among: &[&'static str]) -> &'static str {
        among.get(self.dice.usize(..among.len())).copied().unwrap_or_default()
    }

    fn number(&mut self, below: i64) -> i64 {
        self.dice.i64(1..below)
    }
}

fn money(cents: Vec<i128>) -> anyhow::Result<ArrayRef> {
    Ok(Arc::new(Decimal128Array::from(cents).with_precision_and_scale(15, 2)?))
}

#[derive(Default)]
struct Lines {
    keys: [Vec<i64>; 3],
    number: Vec<i32>,
    money: [Vec<i128>; 4],
    days: [Vec<i32>; 3],
    words: [Vec<&'static str>; 4],
    comment: Vec<String>,
}

impl Lines {
    fn push(&mut self, order: &mut Order, number: i32) {
        let ids = [i64::try_from(order.key).unwrap_or_default(), order.number(200_000), order.number(10_000)];
        let (shipped, committed) = (order.day + order.dice.i32(1..122), order.day + order.dice.i32(30..91));
        let received = shipped + order.dice.i32(1..31);
        let pieces = order.dice.i32(1..51);
        let price = i128::from(pieces) * i128::from(90_000 + order.number(10_000));
        let amounts = [
            i128::from(pieces) * 100,
            price,
            i128::from(order.dice.u8(0..11)),
            i128::from(order.dice.u8(0..9)),
        ];
        let returned = if received > TODAY { "N" } else { order.pick(&["R", "A"]) };
        let open = if shipped > TODAY { "O" } else { "F" };
        let words = [returned, open, order.pick(&INSTRUCTIONS), order.pick(&MODES)];
        self.keys.iter_mut().zip(ids).for_each(|(column, value)| column.push(value));
        self.money.iter_mut().zip(amounts).for_each(|(column, value)| column.push(value));
        self.days.iter_mut().zip([shipped, committed, received]).for_each(|(column, day)| column.push(day));
        self.words.iter_mut().zip(words).for_each(|(column, word)| column.push(word));
        self.number.push(number);
        self.comment.push(order.comment(6));
    }
}

fn lines(orders: impl Iterator<Item = Order>) -> anyhow::Result<RecordBatch> {
    let mut lines = Lines::default();
    for mut order in orders {
        for number in 1..=order.dice.i32(1..8) {
            lines.push(&mut order, number);
        }
    }
    let [order, part, supplier] = lines.keys.map(|keys| Arc::new(Int64Array::from(keys)) as ArrayRef);
    let [quantity, price, discount, tax] = lines.money;
    let [shipped, committed, received] = lines.days.map(|days| Arc::new(Date32Array::from(days)) as ArrayRef);
    let [returned, status, instruction, mode] =
        lines.words.map(|words| Arc::new(StringArray::from(words)) as ArrayRef);
    let columns: [(&str, ArrayRef); 16] = [
        ("l_orderkey", order),
        ("l_partkey", part),
        ("l_suppkey", supplier),
        ("l_linenumber", Arc::new(Int32Array::from(lines.number))),
        ("l_quantity", money(quantity)?),
        ("l_extendedprice", money(price)?),
        ("l_discount", money(discount)?),
        ("l_tax", money(tax)?),
        ("l_returnflag", returned),
        ("l_linestatus", status),
        ("l_shipdate", shipped),
        ("l_commitdate", committed),
        ("l_receiptdate", received),
        ("l_shipinstruct", instruction),
        ("l_shipmode", mode),
        ("l_comment", Arc::new(StringArray::from(lines.comment))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn heads(orders: impl Iterator<Item = Order>) -> anyhow::Result<RecordBatch> {
    let (mut keys, mut customers, mut totals, mut days) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut states, mut priorities, mut clerks, mut comments) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for mut order in orders {
        keys.push(i64::try_from(order.key).unwrap_or_default());
        customers.push(order.number(150_000));
        totals.push(i128::from(order.number(50_000_000)));
        days.push(order.day);
        states.push(if order.day > TODAY { "O" } else { "F" });
        priorities.push(order.pick(&PRIORITIES));
        clerks.push(format!("Clerk#{:09}", order.dice.u32(1..1_000)));
        comments.push(order.comment(9));
    }
    let columns: [(&str, ArrayRef); 8] = [
        ("o_orderkey", Arc::new(Int64Array::from(keys))),
        ("o_custkey", Arc::new(Int64Array::from(customers))),
        ("o_orderstatus", Arc::new(StringArray::from(states))),
        ("o_totalprice", money(totals)?),
        ("o_orderdate", Arc::new(Date32Array::from(days))),
        ("o_orderpriority", Arc::new(StringArray::from(priorities))),
        ("o_clerk", Arc::new(StringArray::from(clerks))),
        ("o_comment", Arc::new(StringArray::from(comments))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
