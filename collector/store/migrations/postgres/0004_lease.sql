-- Who may do the work that only one collector of a group may do at a time. The epoch grows with each new holder and is never
-- given twice: a transaction of such work locks this row and goes on only while it names the epoch it was begun under.
CREATE TABLE lease (
  name   text COLLATE "C" PRIMARY KEY,
  holder text NOT NULL,                    -- of the newest epoch; a name made anew by each process
  epoch  bigint NOT NULL,
  until  timestamptz NOT NULL              -- by the database's clock
);
