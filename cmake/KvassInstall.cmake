# `cmake --install`, and what find_package(kvass) reads: the target kvass::kvass.
include(CMakePackageConfigHelpers)

add_library(kvass::kvass ALIAS kvass)
set(KVASS_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/kvass)

install(TARGETS kvass kvass_flags EXPORT kvass ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kvass DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.inc")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(EXPORT kvass NAMESPACE kvass:: FILE kvass-targets.cmake DESTINATION ${KVASS_PACKAGE_DIR})
# The build folder can be found as a package too: python/ links the library there.
export(EXPORT kvass NAMESPACE kvass:: FILE ${PROJECT_BINARY_DIR}/kvass-targets.cmake)

# A static library hands its private libraries to whoever links it. PCRE2 is asked for only when it is one of them.
get_target_property(KVASS_LINKED kvass LINK_LIBRARIES)
string(FIND "${KVASS_LINKED}" "PkgConfig::PCRE2" KVASS_PCRE2_AT)
if(KVASS_PCRE2_AT EQUAL -1)
  set(KVASS_NEEDS_PCRE2 FALSE)
else()
  set(KVASS_NEEDS_PCRE2 TRUE)
endif()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/kvass-config.cmake.in ${PROJECT_BINARY_DIR}/kvass-config.cmake
  INSTALL_DESTINATION ${KVASS_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kvass-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kvass-config.cmake ${PROJECT_BINARY_DIR}/kvass-config-version.cmake
  DESTINATION ${KVASS_PACKAGE_DIR})
