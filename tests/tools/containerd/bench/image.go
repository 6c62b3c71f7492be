package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
)

// writeImage writes an OCI archive with one file in a folder, which is its entry point: nothing is fetched from anywhere.
func writeImage(output, name, file, at string) error {
	program, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	layer, err := archive([]entry{{name: path.Dir(at) + "/", mode: 0o755}, {name: at, mode: 0o755, content: program}})
	if err != nil {
		return err
	}
	type object = map[string]any
	blobs := []entry{{name: "blobs/", mode: 0o755}, {name: "blobs/sha256/", mode: 0o755}}
	add := func(mediaType string, content []byte) object {
		digest := fmt.Sprintf("%x", sha256.Sum256(content))
		blobs = append(blobs, entry{name: "blobs/sha256/" + digest, mode: 0o644, content: content})
		return object{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(content)}
	}
	document := func(o object) []byte {
		// A map of strings and numbers can always be written.
		text, _ := json.Marshal(o)
		return text
	}
	layerAt := add("application/vnd.oci.image.layer.v1.tar", layer)
	config := add("application/vnd.oci.image.config.v1+json", document(object{
		"architecture": "amd64", "os": "linux", "config": object{"Entrypoint": []string{"/" + at}},
		"rootfs": object{"type": "layers", "diff_ids": []any{layerAt["digest"]}},
	}))
	manifest := add("application/vnd.oci.image.manifest.v1+json", document(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []any{layerAt},
	}))
	manifest["annotations"] = object{"io.containerd.image.name": name}
	index := document(object{"schemaVersion": 2, "manifests": []any{manifest}})
	image, err := archive(append(blobs,
		entry{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		entry{name: "index.json", mode: 0o644, content: index}))
	if err != nil {
		return err
	}
	return os.WriteFile(output, image, 0o600)
}

// entry is a file of an archive, or a folder if its name ends with a slash.
type entry struct {
	name    string
	mode    int64
	content []byte
}

func archive(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		header := tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content))}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
