#if canImport(Darwin)
    import Darwin
#elseif canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// What the operating system answered instead of doing what was asked.
package struct SystemError: Error, CustomStringConvertible {
    package let description: String

    /// The calling thread's `errno`, in words: read it before anything else can change it.
    static var current: SystemError { SystemError(description: String(cString: strerror(errno))) }
}

/// An open regular file, closed with its last reference.
final class OpenFile {
    private let descriptor: Int32
    /// In bytes, when it was opened.
    let size: Int

    init(reading path: String) throws(SystemError) {
        // A pipe without a writer isn't waited for: it is refused below. For regular files the flag means nothing.
        let opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard opened >= 0 else { throw .current }
        var status = stat()
        guard fstat(opened, &status) == 0 else {
            let error = SystemError.current
            close(opened)
            throw error
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(opened)
            let kind = status.st_mode & S_IFMT == S_IFDIR ? "it is a folder" : "it is not a regular file"
            throw SystemError(description: kind)
        }
        descriptor = opened
        size = Int(status.st_size)
    }

    deinit { close(descriptor) }

    /// Reads from where the last read ended, until `destination` is full or the file ends.
    ///
    /// - Returns: The number of bytes read; fewer than asked for only at the end of the file.
    func read(into destination: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        var filled = 0
        while filled < destination.count {
            // Some systems refuse a request of 2 GiB or more.
            let request = min(destination.count - filled, 1 << 30)
            #if canImport(Darwin)
                let count = Darwin.read(descriptor, destination.baseAddress! + filled, request)
            #elseif canImport(Glibc)
                let count = Glibc.read(descriptor, destination.baseAddress! + filled, request)
            #else
                let count = Musl.read(descriptor, destination.baseAddress! + filled, request)
            #endif
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw .current
            }
            filled += count
        }
        return filled
    }

    /// Moves the place that the next read starts from to `offset` bytes from the file's start.
    func seek(to offset: Int) throws(SystemError) {
        guard lseek(descriptor, off_t(offset), SEEK_SET) >= 0 else { throw .current }
    }
}

/// What `read` delivers into room for `count` bytes; fewer when it says so. (Array's own closures don't carry typed
/// errors.)
func readBytes<E: Error>(
    _ count: Int, _ read: (UnsafeMutableRawBufferPointer) throws(E) -> Int
) throws(E) -> [UInt8] {
    var problem: E?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        do throws(E) {
            initialized = try read(UnsafeMutableRawBufferPointer(buffer))
        } catch {
            problem = error
        }
    }
    if let problem { throw problem }
    return bytes
}
