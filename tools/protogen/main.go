// SPDX-License-Identifier: Apache-2.0

// Protogen makes the Go code of a .proto file: what protoc, protoc-gen-go and, for
// services, protoc-gen-go-grpc do together, with a compiler in Go in the place of protoc. protoc of the
// distributions knows no editions yet, which image.proto needs; here the
// versions of all parts stand in tools/go.mod, and nothing else has to be
// installed.
//
//	protogen ROOT FILE…
//
// FILE is relative to ROOT, and so is what it imports. The code is written
// beside it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: protogen ROOT FILE…")
		os.Exit(64)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(root string, files []string) error {
	request, err := compile(root, files)
	if err != nil {
		return err
	}
	for _, generator := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		response, err := generate(generator, request)
		if err != nil {
			return err
		}
		for _, f := range response.File {
			if err := os.WriteFile(filepath.Join(root, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func compile(root string, files []string) (*pluginpb.CodeGeneratorRequest, error) {
	c := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{root}},
		SourceInfoMode: protocompile.SourceInfoStandard, // comments go into the code
	}
	linked, err := c.Compile(context.Background(), files...)
	if err != nil {
		return nil, err
	}
	var all []*descriptorpb.FileDescriptorProto
	for _, f := range linked {
		if f.Imports().Len() > 0 {
			return nil, fmt.Errorf("%s imports other files, which this program does not pass on", f.Path())
		}
		all = append(all, commentOnTop(protoutil.ProtoFromFileDescriptor(f)))
	}
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: files,
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      all,
	}, nil
}

// Numbers of the fields of a FileDescriptorProto, as descriptor.proto has them.
const (
	syntaxField  = 12
	editionField = 14
)

// commentOnTop says that the comment above "edition" is above "syntax", the
// only place where protoc-gen-go looks for a licence line to put on top of its
// own file.
func commentOnTop(f *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	f = proto.CloneOf(f)
	for _, l := range f.GetSourceCodeInfo().GetLocation() {
		if len(l.Path) == 1 && l.Path[0] == editionField {
			l.Path[0] = syntaxField
		}
	}
	return f
}

// generate talks to a generator as protoc does: a request on its standard input,
// the files on its standard output.
func generate(generator string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", generator)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", generator, err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", generator, err)
	}
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	return &response, nil
}
