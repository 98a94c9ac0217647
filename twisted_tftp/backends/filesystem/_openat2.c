/* Find a file below a directory with openat2, in the caches of the kernel only.

   `kernel_lookup.py` does the same with ctypes where this module is missing, in twice the time. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

/* From linux/openat2.h, because many build systems have older headers than the kernels that run it. */
#define OPENAT2_CALL 437
#define RESOLVE_NO_XDEV 0x01
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_BENEATH 0x08
#define RESOLVE_CACHED 0x20

struct open_how {
    uint64_t flags, mode, resolve;
};

static int open_path(int directory, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags), .resolve = resolve};

    return (int)syscall(OPENAT2_CALL, directory, path, &how, sizeof how);
}

PyDoc_STRVAR(find_beneath_doc,
             "find_beneath(root, name, device) -> "
             "(descriptor, mode, device, inode, size, mtime in ns, ctime in ns) or None\n\n"
             "Find a file below the directory with the path `root`: return an O_PATH descriptor\n"
             "and the status. Return None if the root is not found at once on `device`.\n\n"
             "@raise OSError: the file is not found at once, or not on the same file system; or\n"
             "    ENOSYS, if the system does not have openat2.");

static PyObject *find_beneath(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *root, *name;
    unsigned long long device;
    struct stat status;
    int directory, file = -1, error = 0;

    if (!PyArg_ParseTuple(args, "yyK:find_beneath", &root, &name, &device))
        return NULL;
    /* The GIL is kept: nothing waits for a disk, and the calls take two microseconds together. */
    directory = open_path(AT_FDCWD, root, O_DIRECTORY, RESOLVE_CACHED);
    if (directory < 0 && errno == ENOSYS)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (directory < 0)
        Py_RETURN_NONE;
    if (fstat(directory, &status) || status.st_dev != device) {
        close(directory);
        Py_RETURN_NONE;
    }
    file = open_path(directory, name, 0,
                     RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH | RESOLVE_CACHED);
    if (file < 0 || fstat(file, &status))
        error = errno;
    close(directory);
    if (error) {
        if (file >= 0)
            close(file);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("(iIKKLLL)", file, status.st_mode, (unsigned long long)status.st_dev,
                         (unsigned long long)status.st_ino, (long long)status.st_size,
                         status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec,
                         status.st_ctim.tv_sec * 1000000000LL + status.st_ctim.tv_nsec);
}

static PyMethodDef methods[] = {{"find_beneath", find_beneath, METH_VARARGS, find_beneath_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_openat2",
                                        .m_size = 0, .m_methods = methods};

PyMODINIT_FUNC PyInit__openat2(void)
{
    return PyModuleDef_Init(&definition);
}
