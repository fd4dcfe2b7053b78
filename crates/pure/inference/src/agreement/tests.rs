//! Tests of the comparison.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn v2(outputs: &str) -> Answer {
    let body = format!("{{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{outputs}]}}");
    Answer::read(Bytes::from(body), None).unwrap()
}

fn floats(name: &str, shape: &str, data: &str) -> String {
    format!("{{\"name\":\"{name}\",\"datatype\":\"FP32\",\"shape\":{shape},\"data\":{data}}}")
}

fn labels(data: &str) -> String {
    format!("{{\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[2],\"data\":{data}}}")
}

fn texts(name: &str, data: &str) -> Answer {
    v2(&format!("{{\"name\":\"{name}\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":{data}}}"))
}

#[test]
fn the_same_answer_agrees() {
    let answer = v2(&format!("{},{}", labels("[1,0]"), floats("p", "[2,2]", "[0.25,0.75,0.9,0.1]")));
    let agreement = compare(&answer, &answer.clone());
    assert_eq!((agreement.same_classes, agreement.difference_max, agreement.agrees()), (Some(true), Some(0.0), true));
    assert!(compare(&Answer::default(), &Answer::default()).agrees());
}

#[test]
fn labels_decide_and_numbers_are_measured() {
    let one = v2(&format!("{},{}", labels("[1,0]"), floats("score", "[2]", "[5.0,7.0]")));
    let near = v2(&format!("{},{}", floats("score", "[2]", "[5.5,7.0]"), labels("[1,0]")));
    let agreement = compare(&one, &near);
    assert!(agreement.agrees() && !agreement.close);
    assert_eq!((agreement.difference_max, agreement.difference_mean), (Some(0.5), Some(0.25)));
    let far = v2(&format!("{},{}", labels("[1,1]"), floats("score", "[2]", "[5.0,7.0]")));
    let agreement = compare(&one, &far);
    assert_eq!((agreement.same_form, agreement.same_classes, agreement.agrees()), (true, Some(false), false));
}

#[test]
fn the_class_of_probabilities_is_the_largest() {
    let of = |data: &str| v2(&floats("p", "[2,2]", data));
    let one = of("[0.4,0.6,0.9,0.1]");
    assert!(compare(&one, &of("[0.1,0.9,0.51,0.49]")).agrees());
    let other = compare(&one, &of("[0.6,0.4,0.9,0.1]"));
    assert_eq!((other.same_classes, other.agrees()), (Some(false), false));
    // Rows that are no probabilities are numbers, and have to be close.
    let numbers = compare(&of("[3.0,4.0,0.9,0.1]"), &of("[3.0,4.5,0.9,0.1]"));
    assert_eq!((numbers.same_classes, numbers.agrees()), (None, false));
    assert!(compare(&of("[30000.0,4.0,9.0,0.1]"), &of("[30000.5,4.0,9.0,0.1]")).agrees());
}

#[test]
fn another_form_never_agrees() {
    let one = v2(&floats("p", "[2]", "[1.0,2.0]"));
    for other in [
        v2(&floats("q", "[2]", "[1.0,2.0]")),
        v2(&floats("p", "[1,2]", "[1.0,2.0]")),
        v2("{\"name\":\"p\",\"datatype\":\"FP64\",\"shape\":[2],\"data\":[1.0,2.0]}"),
        v2(&format!("{},{}", floats("p", "[2]", "[1.0,2.0]"), labels("[1,1]"))),
    ] {
        let agreement = compare(&one, &other);
        assert!(!agreement.same_form && !agreement.agrees());
    }
}

#[test]
fn texts_are_classes_with_their_scores_beside_them() {
    assert!(!compare(&texts("c", "[\"cat\",\"dog\"]"), &texts("c", "[\"cat\",\"cat\"]")).agrees());
    let agreement = compare(&texts("c", "[\"0.9:1:cat\",\"0.1:0\"]"), &texts("c", "[\"0.8:1:cat\",\"0.1:0\"]"));
    assert!(agreement.agrees());
    assert!(agreement.difference_max.is_some_and(|difference| (difference - 0.1).abs() < 1e-9));
}

#[test]
fn numbers_that_are_not_finite() {
    let of = |data: &str| v2(&floats("p", "[1]", data));
    assert!(compare(&of("[\"NaN\"]"), &of("[\"NaN\"]")).agrees());
    assert!(compare(&of("[\"Infinity\"]"), &of("[\"Infinity\"]")).agrees());
    let agreement = compare(&of("[\"NaN\"]"), &of("[1.0]"));
    assert_eq!((agreement.difference_max, agreement.agrees()), (Some(f64::INFINITY), false));
}

#[test]
fn answers_of_the_v1_protocol() {
    let of = |text: &str| Answer::read_v1(text.as_bytes()).unwrap();
    assert!(compare(&of("{\"predictions\":[[0.4,0.6]]}"), &of("{\"predictions\":[[0.1,0.9]]}")).agrees());
    assert!(!compare(&of("{\"predictions\":[1,0]}"), &of("{\"predictions\":[1,1]}")).agrees());
    let rows = of("{\"predictions\":[{\"label\":1,\"p\":0.5},{\"label\":0,\"p\":0.25}]}");
    let other = of("{\"predictions\":[{\"label\":1,\"p\":0.75},{\"label\":0,\"p\":0.25}]}");
    assert_eq!(compare(&rows, &other).difference_max, Some(0.25));
    assert!(compare(&rows, &other).agrees());
    assert!(
        compare(&of("{\"outputs\":{\"a\":[1.0],\"b\":[\"x\"]}}"), &of("{\"outputs\":{\"b\":[\"x\"],\"a\":[1.0]}}"))
            .agrees()
    );
    assert!(!compare(&of("{\"predictions\":[[1.5]]}"), &of("{\"predictions\":[[1.5,2.5]]}")).same_form);
    for wrong in
        ["", "[]", "{\"error\":\"x\"}", "{\"predictions\":[{\"a\":1},{\"b\":1}]}", "{\"predictions\":[{\"a\":1},2]}"]
    {
        assert!(Answer::read_v1(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn binary_tensors_are_compared_as_their_numbers() {
    let json = "{\"model_name\":\"m\",\"outputs\":[{\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[2],\"parameters\":{\"binary_data_size\":8}}]}";
    let of = |numbers: [f32; 2]| {
        let mut body = json.as_bytes().to_vec();
        numbers.iter().for_each(|number| body.extend(number.to_le_bytes()));
        Answer::read(Bytes::from(body), Some(json.len())).unwrap()
    };
    assert!(compare(&of([1.0, 2.0]), &of([1.0, 2.0])).agrees());
    assert_eq!(compare(&of([1.0, 2.0]), &of([1.0, 4.0])).difference_max, Some(2.0));
}

proptest! {
    #[test]
    fn a_comparison_never_panics_and_has_no_sides(one in any::<Vec<f64>>(), other in any::<Vec<f64>>(), length in 0usize..4) {
        let answer = |numbers: &[f64]| {
            let output = Output { name: String::new(), datatype: None, shape: vec![3, length], values: Values::Numbers(numbers.to_vec()) };
            Answer { outputs: vec![output] }
        };
        let (one, other) = (answer(&one), answer(&other));
        prop_assert_eq!(compare(&one, &other).agrees(), compare(&other, &one).agrees());
        prop_assert!(compare(&one, &one).agrees());
    }

    #[test]
    fn reading_never_panics(text in "[\\[\\]{}:,\"a-c0-9.-]{0,60}") {
        let _ = Answer::read_v1(text.as_bytes());
        let _ = Answer::read_v1(format!("{{\"predictions\":{text}}}").as_bytes());
    }
}
