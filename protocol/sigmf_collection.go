package protocol

import (
	"bytes"
	"encoding/json"
)

// SigMFCollectionExt is the end of the name of a file that groups recordings.
const SigMFCollectionExt = ".sigmf-collection"

// SigMFCollection groups recordings that belong together, such as those of all stations of one acquisition.
type SigMFCollection struct {
	Version     string           `json:"core:version"`
	Description string           `json:"core:description,omitempty"`
	Streams     []SigMFStream    `json:"core:streams"`
	Extensions  []SigMFExtension `json:"core:extensions,omitempty"`
	Acquisition string           `json:"heimdall:acquisition,omitempty"`
}

// SigMFStream names one recording of a collection.
type SigMFStream struct {
	Name string `json:"name"` // of its files, without extension
	Hash string `json:"hash"` // SHA-512 of its metadata file, hex
}

// Encode writes the collection as a .sigmf-collection file, with our extension declared where it is used.
func (c SigMFCollection) Encode() ([]byte, error) {
	if c.Acquisition != "" {
		c.Extensions = declareExtension(c.Extensions)
	}
	if c.Streams == nil {
		c.Streams = []SigMFStream{}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	err := e.Encode(map[string]SigMFCollection{"collection": c})
	return out.Bytes(), err
}
