-- When a station was removed; NULL: it was not, or has come again. Of one that had only a password nothing else says so.
ALTER TABLE station ADD COLUMN removed timestamptz; -- by an operator; NULL: it was not, or has come again
