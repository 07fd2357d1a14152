package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/configs"
)

const (
	mostSpoolBytes = 2 << 30
	spoolShare     = 5 // the spool takes at most a fifth of the disk
	leastLimit     = 1 << 20
)

// spoolLimit is the configured limit, or the smaller of 2 GiB and 20 % of the disk that the spool's directory is on. It
// makes nothing; where the directory is still to be made, it tells whether it can be.
func spoolLimit(cfg SpoolConfig) (int64, error) {
	dir, err := standing(cfg.Path)
	if err != nil {
		return 0, fmt.Errorf("spool.path: %q: %w; name a directory that this account may make", cfg.Path, err)
	}
	if cfg.Limit != 0 {
		return int64(cfg.Limit), nil
	}
	disk, err := diskBytes(dir)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of the disk under %s: %w; spool.limit does without", cfg.Path, err)
	}
	limit := int64(min(mostSpoolBytes, disk/spoolShare))
	if limit < spool.SmallestLimit {
		return 0, fmt.Errorf("spool.limit: a fifth of the disk under spool.path, %s, is %s, and a spool needs %s: name a directory on a larger disk in spool.path, or say in spool.limit that it may take more of this one",
			cfg.Path, configs.Bytes(limit), configs.Bytes(spool.SmallestLimit))
	}
	return limit, nil
}

// standing is the lowest directory of a path that is there already, and may be written.
func standing(path string) (string, error) {
	dir := filepath.Clean(path)
	for {
		info, err := os.Stat(dir)
		switch above := filepath.Dir(dir); {
		case errors.Is(err, os.ErrNotExist) && above != dir:
			dir = above
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", fmt.Errorf("%s is a file", dir)
		default:
			return dir, mayWrite(dir)
		}
	}
}

// diskStatus is how the disk serves the spool.
type diskStatus struct {
	Path        string `json:"path"`
	FreeBytes   *int64 `json:"free_bytes,omitempty"` // for this account; absent when unknown
	TakenBytes  int64  `json:"taken_bytes"`          // by the files of the spool
	ReserveUsed bool   `json:"reserve_used"`         // it was full, and has had no room for the reserve since
	ShedFull    uint64 `json:"shed_disk_full"`       // records given up and declared for want of room on it, since the agent started
	Unwritten   int    `json:"unwritten_records"`    // in memory, because it takes none
	Fault       string `json:"fault,omitempty"`      // why it takes none
}

func newDiskStatus(path string, st spool.Stats) diskStatus {
	d := diskStatus{
		Path: path, TakenBytes: spool.TakenBytes(path), ReserveUsed: st.ReserveUsed, ShedFull: st.ShedFull, Unwritten: st.Unwritten,
	}
	if st.Fault != nil {
		d.Fault = st.Fault.Error()
	}
	dir, err := standing(path)
	if err != nil {
		return d // what is said of the limit says so too
	}
	if free, known := spool.FreeBytes(dir); known {
		d.FreeBytes = &free
	}
	return d
}

// free says how much room there is, for the end of a line; empty when that is not known. On a full disk that is the reserve.
func (d diskStatus) free(limit int64) string {
	switch {
	case d.FreeBytes == nil:
		return ""
	case d.ReserveUsed && *d.FreeBytes < 2*spool.ReserveBytes(limit):
		return fmt.Sprintf(", %s free on the disk, of the reserve that was let go when it was full", configs.Bytes(*d.FreeBytes))
	}
	return fmt.Sprintf(", %s free on the disk", configs.Bytes(*d.FreeBytes))
}

// warnings says what is wrong with the disk, and the mend, for a spool of up to so many bytes.
func (d diskStatus) warnings(limit int64) []string {
	var out []string
	if d.Fault != "" {
		out = append(out, fmt.Sprintf("%s: takes nothing (%s), and %d records wait in memory: free space on its disk, or see that it can be written", d.Path, d.Fault, d.Unwritten))
	}
	if d.ShedFull > 0 {
		out = append(out, fmt.Sprintf("%s: its disk was full: %d records were given up, and declared, since the agent started: %s", d.Path, d.ShedFull, roomMend("")))
	}
	if d.ReserveUsed {
		out = append(out, fmt.Sprintf("%s: its disk was full and the reserve is in use, %s for what tells of records given up: %s",
			d.Path, configs.Bytes(spool.ReserveBytes(limit)), roomMend("")))
	}
	if d.FreeBytes == nil {
		return out
	}
	if has, needs := *d.FreeBytes+d.TakenBytes, spool.RoomBytes(limit); has < needs {
		out = append(out, fmt.Sprintf("%s: its disk has %s for the spool, and spool.limit is %s, for which it may need %s: half as much again for the file, and %s for the reserve: it will be full first: %s",
			d.Path, configs.Bytes(has), configs.Bytes(limit), configs.Bytes(needs), configs.Bytes(spool.ReserveBytes(limit)), roomMend(fits(has))))
	}
	return out
}

// fits says to what the limit may be lowered where the disk has so many bytes for the spool; empty when to none.
func fits(has int64) string {
	for limit := int64(1 << 40); limit >= leastLimit; limit /= 2 {
		if spool.RoomBytes(limit) <= has {
			return " to " + configs.Bytes(limit).String()
		}
	}
	return ""
}

// roomMend is what to do about a full disk; to may say what to lower the limit to.
func roomMend(to string) string {
	return "free space there, lower spool.limit" + to + ", or name a directory on a larger disk in spool.path"
}
