//! Every function of `object_store::integration`, unmodified, on every stack, but for one: `response_extensions` asks for
//! the marks of an HTTP connector of that crate, which a store without requests has not got.

use super::bridge::{ObjectView, object_store::Error, object_store::integration};

crate::integration! {
    put_get_delete_list(view)
    put_get_attributes(view)
    get_opts(view)
    put_opts(view, true)
    stream_get(view)
    list_uses_directories_correctly(view)
    list_with_delimiter(view)
    rename_and_copy(view)
    copy_if_not_exists(view)
    copy_rename_nonexistent_object(view)
    multipart(view, &view)
    multipart_race_condition(view, true)
    multipart_out_of_order(view)
    list_paginated(view, &view)
    list_with_offset_exclusivity(view)
}

#[tokio::test]
async fn get_nonexistent_object() {
    for stack in crate::stacks::all().await {
        let view = ObjectView::new(stack.store.clone());
        let error = integration::get_nonexistent_object(&view, None).await.expect_err("not there");
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
}
