#if canImport(Darwin)
    import Darwin
#elseif canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Writes a file so that whoever looks, at any moment and after a crash at any moment, finds the old file or the new
/// one, whole.
///
/// The pieces go to a temporary file in the same folder, which is flushed to the disk, renamed over `path`, and made to
/// last by flushing the folder. When anything fails the temporary file is removed and the old file is untouched.
package func writeAtomically(_ pieces: [UnsafeRawBufferPointer], to path: String) throws(SystemError) {
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    let temporary = "\(folder)/.\(name).\(getpid())\(temporarySuffix)"

    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .current }
    do throws(SystemError) {
        do throws(SystemError) {
            for piece in pieces { try writeAll(piece, to: descriptor) }
            if fsync(descriptor) != 0 { throw .current }
        } catch {
            close(descriptor)
            throw error
        }
        if close(descriptor) != 0 { throw .current }
        if rename(temporary, path) != 0 { throw .current }
    } catch {
        unlink(temporary)
        throw error
    }
    // A file system that can't flush a folder keeps the rename in order all the same.
    let folderDescriptor = open(folder, O_RDONLY | O_CLOEXEC)
    if folderDescriptor >= 0 {
        fsync(folderDescriptor)
        close(folderDescriptor)
    }
}

/// How the names of files end that a killed process may leave beside the one it was writing.
package let temporarySuffix = ".partial"

private func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(SystemError) {
    var rest = bytes[...]
    while !rest.isEmpty {
        // Some systems refuse a request of 2 GiB or more.
        let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
        let count = write(descriptor, piece.baseAddress, piece.count)
        if count < 0 {
            if errno == EINTR { continue }
            throw .current
        }
        rest = rest.dropFirst(count)
    }
}
