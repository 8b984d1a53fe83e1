"""`xuankan top`: a live view of one shard, from what workers say of themselves."""
