-- What a token of the REST interface may do. Its account is named token:NAME, which no station and no subscriber can be.
ALTER TABLE account ADD COLUMN role text;           -- of a token: viewer, operator or admin
ALTER TABLE account ADD COLUMN stations jsonb;      -- of a token: it is limited to them; NULL: to none
ALTER TABLE account ADD COLUMN used timestamptz;    -- of a token: last, to the hour
ALTER TABLE account ADD COLUMN expires timestamptz; -- of a token
CREATE UNIQUE INDEX account_token ON account (secret) WHERE kind = 'token';
