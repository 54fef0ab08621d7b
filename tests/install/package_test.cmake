# Makes the Debian package of the build folder, looks into it, unpacks it, and runs what is in it.
set(work ${BUILD}/package_test)
set(root ${work}/root)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work}/control)

foreach(program dpkg-deb dpkg-shlibdeps file)
  find_program(found_${program} ${program})
  if(NOT found_${program})
    message("SKIPPED: no ${program}")
    return()
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors
                  WORKING_DIRECTORY ${work})
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nended with ${result}\n${output}\n${errors}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(expect what text)  # expect(<what it is> <text> <regular expression>...)
  foreach(wanted ${ARGN})
    if(NOT text MATCHES "${wanted}")
      message(FATAL_ERROR "${what}: expected '${wanted}' in\n${text}")
    endif()
  endforeach()
endfunction()

# Under the strictest umask: who installs it must be able to read it all the same.
run(sh -c "umask 077 && \"$0\" \"$@\"" ${CPACK} -G DEB -B ${work} --config ${BUILD}/CPackConfig.cmake)
file(GLOB package ${work}/aster_*.deb)
run(dpkg-deb -I ${package})
expect("the control file" "${output}" "Package: aster\n" "Version: ${VERSION}\n" "Depends: [^\n]*libc6 [^\n]*libgomp1 [^\n]*libstdc\\+\\+6 "
       "Maintainer: [^\n]+ <[^\n]+>\n" "Description: [^\n]+\n [^\n]+" "\\* +postinst" "\\* +prerm" "\\* +postrm")

# All of it is where the system looks for it, is root's, and nobody else may write it.
run(dpkg-deb -c ${package})
string(REGEX MATCHALL "[^\n]+" entries "${output}")
foreach(entry ${entries})
  if(NOT entry MATCHES "^[-d]rw.r-.r-. root/root .* \\./(usr/|usr/(bin|lib|share)/|usr/bin/aster|usr/lib/systemd/|usr/lib/systemd/system/|usr/lib/systemd/system/aster\\.service|usr/share/doc/|usr/share/doc/aster/.*|etc/|etc/aster/|etc/aster/serve\\.env)$")
    message(FATAL_ERROR "unexpected in the package: ${entry}")
  endif()
endforeach()

run(dpkg-deb -e ${package} ${work}/control)
file(READ ${work}/control/conffiles conffiles)
expect(conffiles "${conffiles}" "^/etc/aster/serve\\.env\n$")
foreach(script postinst prerm postrm)
  run(sh -n ${work}/control/${script})
endforeach()

run(dpkg-deb -x ${package} ${root})
foreach(name copyright LICENSE THIRD_PARTY.md serve.md security.md licences/llama.cpp licences/cpp-httplib
        licences/nlohmann-json)
  file(READ ${root}/usr/share/doc/aster/${name} text)
  expect(${name} "${text}" "[^\n]+\n[^\n]+")
endforeach()
run(${root}/usr/bin/aster --version)
expect("aster --version" "${output}" "${VERSION}")
run(${root}/usr/bin/aster serve --help)
expect("aster serve --help" "${output}" "Usage: aster serve" "--api-key-file")

# The unit starts that program, and systemd finds nothing wrong with it.
file(READ ${root}/usr/lib/systemd/system/aster.service unit)
expect("aster.service" "${unit}" "\nExecStart=/usr/bin/aster serve \\\$ASTER_SERVE_FLAGS\n"
       "\nEnvironmentFile=-/etc/aster/serve.env\n" "\nDynamicUser=yes\n" "\nProtectSystem=strict\n")
find_program(systemd_analyze systemd-analyze)
if(systemd_analyze)
  string(REPLACE "/usr/bin/aster" "${root}/usr/bin/aster" unit "${unit}")
  file(WRITE ${work}/aster.service "${unit}")
  run(${systemd_analyze} verify --man=no ${work}/aster.service)
endif()
