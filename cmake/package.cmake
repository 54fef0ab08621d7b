# The Debian package, made by `cpack -G DEB` in a build folder: the program, its systemd unit, the
# docs, and the licences of what is linked into it. `cmake --install` installs none of this but the
# program; the library and its headers are not in the package.
set(deb COMPONENT deb EXCLUDE_FROM_ALL)
set(packaging ${PROJECT_SOURCE_DIR}/packaging)
install(TARGETS aster_cli RUNTIME DESTINATION usr/bin ${deb})
install(FILES ${packaging}/aster.service DESTINATION usr/lib/systemd/system ${deb})
install(FILES ${packaging}/serve.env DESTINATION etc/aster ${deb})
install(FILES ${packaging}/debian/copyright LICENSE THIRD_PARTY.md docs/serve.md docs/security.md
  DESTINATION usr/share/doc/aster ${deb})
foreach(licence llama.cpp=LICENSE nlohmann-json=licenses/LICENSE-jsonhpp
        cpp-httplib=vendor/cpp-httplib/LICENSE)
  string(REGEX MATCH "(.*)=(.*)" _ ${licence})
  install(FILES ${ASTER_LLAMA_DIR}/${CMAKE_MATCH_2} DESTINATION usr/share/doc/aster/licences
    RENAME ${CMAKE_MATCH_1} ${deb})
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME aster)
set(CPACK_PACKAGE_CONTACT "The Aster authors <aster@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Asks long documents questions, on the machine you have")
set(CPACK_INSTALL_CMAKE_PROJECTS "${PROJECT_BINARY_DIR};aster;deb;/")
set(CPACK_PACKAGING_INSTALL_PREFIX /)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/package_folders.cmake)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS python3-pip)  # `aster model fetch`
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
  "An inference engine with Star Attention, for any full-attention GGUF model that llama.cpp runs.
`aster serve` is a server with OpenAI's API that remembers contexts, with a systemd unit.")
if(GGML_NATIVE)
  string(APPEND CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "\n This build is for CPUs that have all instructions of the one that it was built on.")
endif()
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${packaging}/debian/conffiles ${packaging}/debian/postinst
  ${packaging}/debian/prerm ${packaging}/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
